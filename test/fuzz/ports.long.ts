/** Both ports of a real link, in this process: any uncaught error fails the test. */
import t from 'tap';
import { newKey, startTestLink } from '../harness/test-link.js';
import { fuzz, manyInputs } from './fuzzing.js';
import { controlTarget } from './targets/control-port.js';
import { nodePortTarget } from './targets/node-port.js';

void t.test('fuzzing: the control port answers every request', async t => {
  const link = await startTestLink(t);
  console.log(await fuzz(t, controlTarget(link.control), manyInputs));
  t.ok(await link.register(newKey()), 'the link goes on');
  t.notOk(
    link.logged.find(line => line.includes('"level":50')),
    'nothing went wrong inside',
  );
});

void t.test('fuzzing: the node port refuses every unauthenticated peer', async t => {
  const link = await startTestLink(t);
  const target = nodePortTarget({ address: link.link.addresses.node, ca: link.ca });
  t.teardown(target.close);
  console.log(await fuzz(t, target, manyInputs));
  const key = newKey();
  await link.register(key);
  t.ok(await link.enroll(key), 'an honest node still enrolls');
  t.notOk(
    link.logged.find(line => line.includes('"level":50')),
    'nothing went wrong inside',
  );
});
