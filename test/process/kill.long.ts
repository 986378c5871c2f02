/** 200 kills of the link while nodes are being registered: nothing acknowledged is lost, nothing is half there. */
import t from 'tap';
import { killWhileRegistering } from '../harness/kill-loop.js';
import { openSite } from '../harness/site.js';

void t.test('200 × kill -9 of the link loses no acknowledged node', { timeout: 900_000 }, async t => {
  await killWhileRegistering(t, await openSite(t), 200);
});
