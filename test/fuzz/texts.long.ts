/** Many inputs for what reads names, records and messages. */
import t from 'tap';
import { fuzz, manyInputs } from './fuzzing.js';
import { messageTargets } from './targets/messages.js';
import { nameTargets } from './targets/names.js';
import { recordTargets } from './targets/records.js';

for (const target of [...messageTargets, ...nameTargets, ...recordTargets]) {
  void t.test(`fuzzing: ${target.name}`, async t => console.log(await fuzz(t, target, manyInputs)));
}
