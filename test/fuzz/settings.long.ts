/** Many inputs for what reads settings. */
import t from 'tap';
import { fuzz, manyInputs } from './fuzzing.js';
import { settingsTargets } from './targets/settings.js';

for (const target of settingsTargets) {
  void t.test(`fuzzing: ${target.name}`, async t => console.log(await fuzz(t, target, manyInputs)));
}
