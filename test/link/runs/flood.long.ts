/** A node that logs without end: what is kept of it is bounded, and everybody else goes on. */
import t from 'tap';
import { startHandSite } from './fixtures/hand-site.js';

void t.test('120,000 lines of a node, as fast as they go', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  const node = await site.node();
  const { run, half } = await site.running(supervisor);
  half.say('send', { number: 1, node: `${node.id}`, type: 'train' }, Buffer.from('x'));
  await half.hear('accepted');
  await node.hear('deliver');
  // As many as fit into a frame.
  const lines = Array.from({ length: 5_000 }, () => ({ atMs: 1n, level: 'info', text: '' }));
  for (let sequence = 1n; sequence < 120_000n; sequence += 5_000n) {
    node.say({ $case: 'log', value: { run: run.id, sequence, lines } });
    // Slower than they are lost, so that the log itself is what fills up.
    await node.hear('logTaken');
  }
  t.equal((await site.runs.get(run.id)).logLines, 100_000n);
  node.reply(run.id, 1, 'answer');
  t.equal((await half.hear('answer')).body.toString(), 'answer');
  half.say('finished', {});
  await half.hear('over');
  t.equal((await site.finished(run)).logLines, 100_000n);
});
