/** A few inputs for every parser that meets strangers, and those that were kept because they once were interesting. */
import t from 'tap';
import { fuzz, replayCorpus } from './fuzzing.js';
import { certificateTargets } from './targets/certificates.js';
import { keyTargets } from './targets/keys.js';
import { messageTargets } from './targets/messages.js';
import { nameTargets } from './targets/names.js';
import { proofTargets } from './targets/proofs.js';
import { recordTargets } from './targets/records.js';
import { settingsTargets } from './targets/settings.js';

const targets = [
  ...keyTargets,
  ...certificateTargets,
  ...proofTargets,
  ...nameTargets,
  ...recordTargets,
  ...settingsTargets,
  ...messageTargets,
];
const only = process.env['ONLY'];

for (const target of targets)
  if (!only || target.name.match(only))
    void t.test(`${target.name} keeps its promises`, t =>
      fuzz(t, target, Number(process.env['RUNS'] ?? 300)),
    );
void t.test('what was kept is still answered as promised', t => replayCorpus(t, targets));
