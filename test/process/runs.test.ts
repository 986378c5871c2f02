/** A run as in production, with more in runs.long.ts: a link, agents and app hosts as processes, apps on the disk, logs read over the control port. */
import { join } from 'node:path';
import t from 'tap';
import { as } from '../../src/base/settings.js';
import { RunOutcome, RunStatus } from '../../src/protocol/generated/rollcall/v1/runs.js';
import { prepareOperator } from '../harness/operator.js';
import { restCalls } from '../harness/rest-calls.js';
import { nodeHalf, openRunSite, serverHalf } from '../harness/run-site.js';
import { newKey } from '../harness/test-link.js';

/** Sends one query to every node and returns the answers. */
const askAll = serverHalf(`
  const nodes = await grid.nodes({ min: config['min'] });
  const answers = [];
  const messages = nodes.map(({ id }) => ({ node: id, type: config['type'], content: { text: 'hello', id } }));
  for await (const { node, content, error } of grid.sendAndReceive(messages, { timeoutMs: config['ttl'] }))
    answers.push(error ? { node, code: error.code, message: error.message } : { node, content });
  return answers;`);
const config = { min: 1, type: 'query', ttl: 60_000 };

interface Told {
  readonly node: string;
  readonly code?: string;
  readonly message?: string;
  readonly content?: Record<string, unknown>;
}

void t.test('two nodes of a link run an app as processes', async t => {
  const site = await openRunSite(t);
  const berlin = await site.startTrusting('berlin', ['--node-config', 'site="charité" big=9007199254740993']);
  const tokyo = await site.startTrusting('tokyo');

  await t.test('nodes answer from their own configuration, and their logs arrive in order', async t => {
    const node = nodeHalf(`
      query: (message, { nodeConfig, nodeId, log, progress }) => {
        log.info('asked');
        console.log('printed');
        progress(0.5, 'half');
        return { site: nodeConfig['site'] ?? 'none', big: String(nodeConfig['big'] ?? 0), nodeId, echo: message.content['text'] };
      },`);
    const run = await site.start({ server: askAll, node, config }, { min: 2 });
    t.equal(run.status, RunStatus.RUN_STATUS_PENDING);
    const done = await site.finished(run);
    t.equal(done.outcome, RunOutcome.RUN_OUTCOME_COMPLETED, done.reason);
    const answers = JSON.parse(done.resultJson) as Told[];
    t.equal(answers.length, 2);
    const ofBerlin = answers.find(each => each.node === berlin.id)?.content;
    t.same(ofBerlin, { site: 'charité', big: '9007199254740993', nodeId: berlin.id, echo: 'hello' });
    t.equal(answers.find(each => each.node === tokyo.id)?.content?.['site'], 'none');
    t.equal(done.nodes, 2);
    t.same([done.messagesSent, done.messagesAnswered, done.messagesFailed], [2n, 2n, 0n]);
    t.ok(done.createdAtMs <= done.startingAtMs && done.startingAtMs <= done.runningAtMs);
    const log = await site.log(run);
    t.same(
      log.map(({ number }) => Number(number)),
      log.map((_, index) => index + 1),
    );
    t.equal(log.filter(({ level, text }) => level === 'info' && text === 'asked').length, 2);
    t.equal(log.filter(({ level, text }) => level === 'stdout' && text === 'printed').length, 2);
    t.same(new Set(log.map(({ node }) => `${node}`)), new Set(['0', berlin.id, tokyo.id]));
    const token = await prepareOperator(join(site.folder, 'data'));
    const ask = restCalls(t, as.address(site.link.control).port, site.ca);
    const { json } = await ask(`GET /v1/audit/events?subject=${run.id}`, { token });
    t.match(json, {
      entries: [
        { type: 'run.started', by: { kind: 'user', name: 'operator' }, detail: { version: '1.0.0' } },
        { type: 'run.finished', by: { kind: 'link' }, detail: { outcome: 'completed' } },
      ],
    });
  });

  await t.test(
    'messages to an unknown, a revoked and an absent node fail, and all others are answered',
    async t => {
      const revoked = await site.startTrusting('revoked');
      await site.control.revokeNode({ node: revoked.id, comment: '' });
      const away = newKey();
      const awayId = await site.register(away);
      const server = serverHalf(`
      const answers = {};
      const messages = config['nodes'].split(' ').map(node => ({ node, type: 'query', content: {}, ttlMs: node === config['away'] ? 1 : 60_000 }));
      for await (const { node, error } of grid.sendAndReceive(messages)) answers[node] = error?.code ?? 'answered';
      return answers;`);
      const answers = await site.complete<Record<string, string>>(
        { server, config: { nodes: '', away: '' } },
        { nodes: `1234567 ${revoked.id} ${awayId} ${berlin.id}`, away: awayId },
      );
      t.equal(answers['1234567'], 'NODE_NOT_FOUND');
      t.equal(answers[revoked.id], 'NODE_REVOKED');
      t.equal(answers[awayId], 'NODE_OFFLINE');
      t.equal(answers[berlin.id], 'answered');
    },
  );
});
