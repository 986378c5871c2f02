/** Many inputs for the parsers of app packages, contents and frames. */
import t from 'tap';
import { fuzz, manyInputs } from './fuzzing.js';
import { runTargets } from './targets/runs.js';

for (const target of runTargets) {
  void t.test(`fuzzing: ${target.name}`, async t => console.log(await fuzz(t, target, manyInputs)));
}
