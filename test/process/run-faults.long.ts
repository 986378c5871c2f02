/** Runs while a process dies: the agent before, during and after a handler, the link with and without an app host. */
import t from 'tap';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RunOutcome } from '../../src/protocol/generated/rollcall/v1/runs.js';
import { skipWithoutPython } from '../harness/python-half.js';
import { killWhileRunning } from '../harness/run-kill-loop.js';
import {
  makeHostFolder,
  nobody,
  nodeHalf,
  openRunSite,
  serverHalf,
  serverHalves,
  type RunSite,
} from '../harness/run-site.js';

/** Sends one message and returns its answer. */
const askOne = serverHalves(
  `
  const [{ id }] = await grid.nodes();
  log.info('sending');
  for await (const { content, error } of grid.sendAndReceive([{ node: id, type: 'query', content: {} }]))
    return error ? { code: error.code, message: error.message } : content;`,
  `
  [node] = grid.nodes()
  context.log.info("sending")
  for reply in grid.send_and_receive([OutgoingMessage(node.id, "query", {})]):
      return reply.error._asdict() if reply.error else reply.content`,
);

/** A handler that waits until a file exists and answers with the number of its attempt. */
const waitingNode = (gate: string): string =>
  nodeHalf(`
    query: async ({ attempt }, { log }) => {
      log.info('entered ' + attempt);
      const { existsSync } = await import('node:fs');
      while (!existsSync(${JSON.stringify(gate)})) await new Promise(resolve => setTimeout(resolve, 10));
      return { attempt };
    },`);

async function untilLogged(site: RunSite, run: bigint, text: string): Promise<void> {
  for await (const { entry } of site.runs().log(run, { follow: true })) if (entry?.text === text) return;
  throw new Error(`the run ended without saying "${text}"`);
}

void t.test('a killed agent resumes the messages of its run', async t => {
  const site = await openRunSite(t);
  const berlin = await site.startTrusting('berlin');
  const gate = join(site.folder, 'gate');

  await t.test(
    'a handler that was interrupted by the death of its agent is called again with the next attempt',
    async t => {
      const run = await site.start({ ...askOne.javascript, node: waitingNode(gate) });
      await untilLogged(site, run.id, 'entered 1');
      await berlin.running.stop('SIGKILL');
      await site.restartNode('berlin', berlin);
      await untilLogged(site, run.id, 'entered 2');
      await writeFile(gate, '');
      const { resultJson } = await site.finished(run);
      t.same(JSON.parse(resultJson), { attempt: 2 });
      await rm(gate);
    },
  );

  await t.test('a message to an absent node is delivered when the node is back', async t => {
    const server = serverHalf(`
      log.info('sending');
      for await (const { content } of grid.sendAndReceive([{ node: '${berlin.id}', type: 'query', content: {} }])) return content;`);
    await berlin.running.stop('SIGKILL');
    const run = await site.start({ server, node: waitingNode(gate) });
    await untilLogged(site, run.id, 'sending');
    await writeFile(gate, '');
    await site.restartNode('berlin', berlin);
    t.same(JSON.parse((await site.finished(run)).resultJson), { attempt: 1 });
    await rm(gate);
  });
});

for (const language of ['javascript', 'python'] as const) {
  const withLanguage = { skip: language === 'python' && skipWithoutPython };
  void t.test(`a killed link and its server half in ${language}`, withLanguage, async t => {
    await t.test(
      'a server half that is a child of a killed link dies too, and its run fails with that reason',
      async t => {
        const site = await openRunSite(t);
        await site.startTrusting('berlin');
        const run = await site.start({ ...askOne[language], node: waitingNode(join(site.folder, 'never')) });
        await untilLogged(site, run.id, 'entered 1');
        await site.link.running.stop('SIGKILL');
        await site.restart();
        const { outcome, reason } = await site.runs().get(run.id);
        t.equal(outcome, RunOutcome.RUN_OUTCOME_FAILED);
        t.match(reason, /the link was restarted, and its server half ran as a child of it/);
      },
    );

    await t.test('a server half in an app host continues while the link is restarted', async t => {
      const site = await openRunSite(t, { isolation: 'process' });
      const gate = join(site.folder, 'gate');
      await site.startTrusting('berlin');
      const run = await site.start({ ...askOne[language], node: waitingNode(gate) });
      while (!/waiting for an app host/.test((await site.runs().get(run.id)).reason))
        await new Promise(resolve => setTimeout(resolve, 10));
      await site.startHost();
      await untilLogged(site, run.id, 'entered 1');
      await site.link.running.stop('SIGKILL');
      await site.restart();
      await writeFile(gate, '');
      const done = await site.finished(run);
      t.equal(done.outcome, RunOutcome.RUN_OUTCOME_COMPLETED, done.reason);
      t.same(JSON.parse(done.resultJson), { attempt: 1 });
      const entered = (await site.log(run)).filter(({ text }) => text.startsWith('entered'));
      t.equal(entered.length, 1, 'the handler, which went on meanwhile, is not entered again');
    });

    await t.test('a run fails when its app host is killed', async t => {
      const site = await openRunSite(t, { isolation: 'process' });
      await site.startTrusting('berlin');
      const host = await site.startHost();
      const run = await site.start({ ...askOne[language], node: waitingNode(join(site.folder, 'never')) });
      await untilLogged(site, run.id, 'entered 1');
      await host.stop('SIGKILL');
      await site.startHost();
      const done = await site.finished(run);
      t.equal(done.outcome, RunOutcome.RUN_OUTCOME_FAILED);
      t.match(done.reason, /its app host was restarted|ended/);
    });

    await t.test('every message has one answer, whichever process is killed', async t => {
      await killWhileRunning(t, 4, 120, language);
    });
  });
}

const skip = process.getuid?.() !== 0 && 'only root can start processes of other users';

void t.test('an app in a process of another user reads no key of the link or the node', { skip }, async t => {
  const site = await openRunSite(t, { isolation: 'process' });
  // The permissions of the keys must keep it out, not those of the folder of the test.
  await chmod(site.folder, 0o755);
  await site.startHost({ user: nobody });
  const socket = join(await makeHostFolder(t), 'berlin.sock');
  await site.startTrusting('berlin', ['--isolation', 'process', '--app-host-socket', socket]);
  const keyPath = join(site.folder, 'state', 'berlin', 'app-host.key');
  await site.startHost({ socket, keyPath, user: nobody });
  const tryAll = (paths: readonly string[]): string => `
    const { readFile, readdir } = await import('node:fs/promises');
    const codes = {};
    for (const path of ${JSON.stringify(paths)})
      codes[path] = await readFile(path).catch(error => { if (error.code !== 'EISDIR') throw error; return readdir(path); }).then(() => 'read', error => error.code);
    const variables = Object.keys(process.env).filter(name => name.startsWith('ROLLCALL_')).join(' ');
    const user = process.getuid();`;
  const ofLink = [
    'authority.key',
    'store',
    'store/CURRENT',
    'objects',
    'token-keys.json',
    'app-host.key',
  ].map(name => join(site.folder, 'data', name));
  const ofNode = ['berlin.key', 'state/berlin', 'state/berlin/session.json', 'state/berlin/app-host.key'].map(
    name => join(site.folder, name),
  );
  const server = serverHalf(`
    ${tryAll([...ofLink, ...ofNode])}
    const [{ id }] = await grid.nodes();
    for await (const { content, error } of grid.sendAndReceive([{ node: id, type: 'query', content: {} }]))
      return { server: { codes, variables, user }, node: error ?? JSON.parse(content.told) };`);
  const node = nodeHalf(`
    query: async () => {
      ${tryAll([...ofLink, ...ofNode])}
      return { told: JSON.stringify({ codes, variables, user }) };
    },`);
  const told = await site.complete<Record<'server' | 'node', Tried>>({ server, node });
  for (const half of ['server', 'node'] as const) {
    t.equal(told[half].user, nobody.uid);
    t.equal(told[half].variables, '', 'no variable of rollcall reaches an app');
    for (const path of [...ofLink, ...ofNode]) t.equal(told[half].codes[path], 'EACCES', `${half}: ${path}`);
  }
});

interface Tried {
  readonly codes: Readonly<Record<string, string>>;
  readonly variables: string;
  readonly user: number;
}
