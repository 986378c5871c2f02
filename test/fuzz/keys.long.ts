/** Many inputs for the parsers of keys. */
import t from 'tap';
import { fuzz, manyInputs } from './fuzzing.js';
import { keyTargets } from './targets/keys.js';

for (const target of keyTargets) {
  void t.test(`fuzzing: ${target.name}`, async t => console.log(await fuzz(t, target, manyInputs)));
}
