/** Twenty kills of link and agents in one run of 500 messages: 500 answers, exactly one each. */
import t from 'tap';
import { killWhileRunning } from '../harness/run-kill-loop.js';

void t.test('20 × kill -9 of link and agents loses no answer of a run', { timeout: 600_000 }, async t => {
  await killWhileRunning(t, 20, 500);
});
