/** A few inputs for every parser of untrusted input, and the saved corpus. */
import t from 'tap';
import { startTestLink } from '../harness/test-link.js';
import { fuzz, replayCorpus } from './fuzzing.js';
import { certificateTargets } from './targets/certificates.js';
import { controlTarget } from './targets/control-port.js';
import { keyTargets } from './targets/keys.js';
import { messageTargets } from './targets/messages.js';
import { nameTargets } from './targets/names.js';
import { nodePortTarget } from './targets/node-port.js';
import { proofTargets } from './targets/proofs.js';
import { recordTargets } from './targets/records.js';
import { runTargets } from './targets/runs.js';
import { settingsTargets } from './targets/settings.js';

const targets = [
  ...keyTargets,
  ...certificateTargets,
  ...proofTargets,
  ...nameTargets,
  ...recordTargets,
  ...settingsTargets,
  ...messageTargets,
  ...runTargets,
];

for (const target of targets) {
  void t.test(`fuzzing, some inputs: ${target.name}`, t => fuzz(t, target, 150));
}

void t.test('fuzzing, some inputs: both ports, and every target with the saved corpus', async t => {
  const link = await startTestLink(t);
  const nodePort = nodePortTarget({ address: link.link.addresses.node, ca: link.ca });
  t.teardown(nodePort.close);
  const ports = [controlTarget(link.control), nodePort];
  for (const port of ports) await fuzz(t, port, 300);
  await replayCorpus(t, [...targets, ...ports]);
});
