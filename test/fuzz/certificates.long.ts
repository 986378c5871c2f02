/** Many inputs for the parsers of certificates and proofs. */
import t from 'tap';
import { fuzz, manyInputs } from './fuzzing.js';
import { certificateTargets } from './targets/certificates.js';
import { proofTargets } from './targets/proofs.js';

for (const target of [...certificateTargets, ...proofTargets]) {
  void t.test(`fuzzing: ${target.name}`, async t => console.log(await fuzz(t, target, manyInputs)));
}
