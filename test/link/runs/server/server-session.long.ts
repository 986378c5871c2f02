/** Sessions of a server half whose runner violates the protocol or floods the link. */
import { createConnection } from 'node:net';
import t, { type Test } from 'tap';
import { encodeFrame } from '../../../../src/app-host/wire/frames.js';
import { createPowerCutStore } from '../../../../src/store/power-cut.js';
import { connectOperator, issueToken, makeUser } from '../../../harness/operator.js';
import { newKey } from '../../../harness/test-link.js';
import { startHandSite, type HandSite, type HandSupervisor } from '../fixtures/hand-site.js';
import { userParty } from '../../../harness/parties.js';

const content = Buffer.from('question');

async function openBench(t: Test): Promise<{ site: HandSite; supervisor: HandSupervisor }> {
  const site = await startHandSite(t);
  return { site, supervisor: await site.supervise() };
}

void t.test('a runner receives the app and its settings once', async t => {
  const { site, supervisor } = await openBench(t);
  const run = await site.start({ rounds: 5 });
  const token = await supervisor.started(run);
  const half = await site.half(token);
  t.match(half.welcome.value, {
    run: `${run.id}`,
    half: 'server',
    config: { rounds: 5, name: '' },
    resumed: false,
  });
  let bytes = 0;
  while (bytes < Number(half.welcome.value['archiveBytes']))
    bytes += (await half.hear('archive')).body.length;
  half.say('ready', {});
  half.say('ready', {});
  half.say('send', { number: 1, node: 'nobody', type: 'x' });
  await half.hear('accepted');
  t.match((await half.hear('answer')).value, { error: { code: 'NODE_NOT_FOUND' } });
  const again = await site.half(token);
  t.match(again.welcome.value, { resumed: true, archiveBytes: 0 });
  await half.closed;
  t.match((await again.hear('answer')).value, { number: 1 }, 'what was not taken comes again');
  again.say('taken', { number: 1 });
  const third = await site.half(token);
  third.say('finished', {});
  await third.hear('over');
  t.same(third.heard, [], 'what was taken does not');
});

void t.test('a frame that violates the protocol ends the connection but not the run', async t => {
  const { site, supervisor } = await openBench(t);
  const { run, token, half } = await site.running(supervisor);
  half.say('send', { number: 0 });
  t.match((await half.hear('bye')).value, { message: /protocol violation by the app host/ });
  await half.closed;
  const said: readonly [string, object][] = [
    ['send', { number: 1, ttlMs: 'x' }],
    ['taken', {}],
    ['nodes', { request: 0 }],
    ['log', { sequence: -1 }],
    ['log', { sequence: 1, text: 5 }],
    ['failed', { message: {} }],
    ['get', { digest: '../../../authority.key' }],
    ['put', { digest: 'x' }],
    ['chunk', { digest: 'ab'.repeat(32), chunk: -1 }],
  ];
  for (const [name, value] of said) {
    const next = await site.half(token);
    next.say(name, value);
    t.ok(await next.hear('bye'), `${name} ${JSON.stringify(value)}`);
    await next.closed;
  }
  const last = await site.half(token);
  last.say('something newer', { x: 1 });
  last.say('failed', { message: 'as\u001b[2J told\nby a newer one' });
  await last.hear('over');
  const { reason } = await site.finished(run);
  t.equal(reason, 'as\ufffd[2J told\ufffdby a newer one', 'and nothing in it moves a terminal');
});

void t.test('an invalid token opens no connection to a run', async t => {
  const { site, supervisor } = await openBench(t);
  const { half, token } = await site.running(supervisor);
  for (const wrong of ['', token.toUpperCase(), token.slice(1), 'ab'.repeat(32)]) {
    const stranger = await site.half(wrong);
    t.equal(stranger.welcome.name, 'bye');
  }
  half.say('finished', {});
  await half.hear('over');
});

void t.test('a message sent on two connections is stored once', async t => {
  const { site, supervisor } = await openBench(t);
  const node = await site.node();
  const { run, token, half } = await site.running(supervisor);
  const send = (number: number) => ['send', { number, node: `${node.id}`, type: 'train' }, content] as const;
  for (const number of [1, 2]) half.say(...send(number));
  await node.hear('deliver');
  const again = await site.half(token);
  for (const number of [1, 2]) again.say(...send(number));
  const accepted = [await again.hear('accepted'), await again.hear('accepted')];
  t.same(
    accepted.map(({ value }) => value),
    [{ number: 1 }, { number: 2 }],
  );
  t.equal((await node.hear('deliver')).message, 2n);
  node.reply(run.id, 1, 'answer');
  await again.hear('answer');
  // An answer that is taken in the turn of its repetition is not sent again.
  again.say(...send(1));
  again.say('taken', { number: 1 });
  await again.hear('accepted');
  await node.flush();
  t.same(
    node.heard.filter(({ $case }) => $case === 'deliver'),
    [],
  );
  again.say('finished', {});
  await again.hear('over');
});

void t.test('answers are sent no faster than the server half takes them', async t => {
  const { site, supervisor } = await openBench(t);
  const { half } = await site.running(supervisor);
  for (let number = 1; number <= 200; number++) half.say('send', { number, node: 'x', type: '' });
  for (let number = 1; number <= 200; number++) await half.hear('accepted');
  for (let number = 1_000; number < 1_200; number++) half.say('taken', { number });
  // Log lines are answered in order: by then all of that was dealt with.
  half.say('log', { sequence: 1, at: 1, level: 'info', text: 'mark' });
  await half.hear('logged');
  for (let count = 0; count < 20; count++) await new Promise(resolve => setImmediate(resolve));
  const given = half.heard
    .filter(({ name }) => name === 'answer')
    .map(({ value }) => value['number'] as number);
  t.equal(given.length, 64);
  for (const number of given) half.say('taken', { number });
  for (let count = 0; count < 128; count++) await half.hear('answer');
  half.say('finished', {});
  await half.hear('over');
});

void t.test('the number of open searches for nodes is bounded', async t => {
  const { site, supervisor } = await openBench(t);
  const { run, half } = await site.running(supervisor);
  const labels = { site: 'berlin' };
  for (let request = 1; request <= 70; request++) half.say('nodes', { request, min: 5, labels });
  const refused = [];
  for (let count = 0; count < 6; count++) refused.push((await half.hear('nodes')).value);
  t.same(
    refused.map(({ request }) => request),
    [65, 66, 67, 68, 69, 70],
  );
  t.match(refused[0], { error: /at most 64/ });
  half.say('finished', {});
  await half.hear('over');
  await site.finished(run);
  t.same(
    (await site.log(run)).filter(({ text }) => text.startsWith('waiting')).map(({ text }) => text),
    ['waiting for 5 nodes site=berlin (0 online)'],
    'one line tells of all that wait',
  );
});

void t.test('progress of nodes does not accumulate while the server half does not read', async t => {
  const { site, supervisor } = await openBench(t);
  const node = await site.node();
  const { run, half } = await site.running(supervisor);
  half.say('send', { number: 1, node: `${node.id}`, type: 'train' }, content);
  await half.hear('accepted');
  await node.hear('deliver');
  half.connection.pause();
  const note = '€'.repeat(200);
  for (let round = 0; round < 14; round++) {
    for (let count = 0; count < 1_000; count++)
      node.say({ $case: 'progress', value: { run: run.id, message: 1n, fraction: 0.5, note } });
    await node.flush();
  }
  half.connection.resume();
  node.reply(run.id, 1, 'done');
  await half.hear('answer');
  // All of them would be 10 MB.
  const heard = half.heard.filter(({ name }) => name === 'progress').length;
  t.ok(heard < 10_000, `${heard} of 14,000 came through`);
  half.say('finished', {});
  await half.hear('over');
});

void t.test('frames of a server half after its outcome have no effect', async t => {
  const { site, supervisor } = await openBench(t);
  const node = await site.node();
  const { run, half } = await site.running(supervisor);
  half.say('send', { number: 1, node: `${node.id}`, type: 'train' }, content);
  await half.hear('accepted');
  await node.hear('deliver');
  half.say('finished', { result: 1 });
  half.say('send', { number: 2, node: `${node.id}`, type: 'train' }, content);
  half.say('failed', { message: 'no, after all' });
  await half.hear('over');
  half.say('send', { number: 3, node: `${node.id}`, type: 'train' }, content);
  const lines = Array.from({ length: 50 }, (_, index) => index + 1);
  for (const sequence of lines) half.say('log', { sequence, at: 1, level: 'info', text: 'late' });
  await site.finished(run);
  supervisor.exited(run);
  await node.hear('cancel');
  await node.flush();
  t.same(
    node.heard.map(({ $case }) => $case),
    ['assign'],
    'the node is sent nothing',
  );
  t.same(
    (await site.log(run)).filter(({ text }) => text === 'late'),
    [],
  );
  t.equal((await site.runs.get(run.id)).resultJson, '1');
  t.equal((await site.audit('run.finished')).length, 1);
});

void t.test('a result of more than 64 KiB fails the run', async t => {
  const { site, supervisor } = await openBench(t);
  const { run, half } = await site.running(supervisor);
  half.say('finished', { result: 'é'.repeat(33_000) });
  t.match((await site.finished(run)).reason, /at most 64 KiB/);
});

void t.test('messages reach only nodes of the tenant of the run', async t => {
  const { site, supervisor } = await openBench(t);
  const { access } = site.link;
  await access.tenants.create('other', userParty('test'));
  const stranger = await issueToken(access, await makeUser(access, 'stranger', ['admin'], 'other'));
  const { host, port } = site.link.addresses.control;
  const control = connectOperator(`${host}:${port}`, stranger, site.ca);
  t.teardown(() => control.close());
  const request = { publicKey: newKey().publicKey.spki, name: '', labels: {}, again: false };
  const theirs = await control.registerNode(request);
  const ours = await site.register(newKey());
  await site.control.revokeNode({ node: `${ours.id}`, comment: '' });
  const { run, half } = await site.running(supervisor);
  const ask = async (number: number, node: string): Promise<unknown> => {
    half.say('send', { number, node, type: 'train' }, content);
    await half.hear('accepted');
    return ((await half.hear('answer')).value['error'] as { code: string }).code;
  };
  t.equal(await ask(1, `${theirs.id}`), 'NODE_NOT_FOUND');
  t.equal(await ask(2, `${run.id}`), 'NODE_NOT_FOUND', 'to itself');
  t.equal(await ask(3, `${ours.id}`), 'NODE_REVOKED');
  half.say('nodes', { request: 1, min: 0 });
  t.match((await half.hear('nodes')).value, { request: 1, nodes: [] });
  half.say('finished', {});
  const { nodes, messagesSent, messagesFailed } = await site.finished(run);
  t.same([nodes, messagesSent, messagesFailed], [0, 3n, 3n]);
});

void t.test('revoking a node answers its messages with NODE_REVOKED', async t => {
  const { site, supervisor } = await openBench(t);
  const node = await site.node();
  const { run, half } = await site.running(supervisor);
  for (let number = 1; number <= 20; number++)
    half.say('send', { number, node: `${node.id}`, type: 'train' }, content);
  for (let number = 1; number <= 20; number++) await half.hear('accepted');
  await node.hear('deliver');
  node.reply(run.id, 1, 'in time');
  t.equal((await half.hear('answer')).body.toString(), 'in time');
  await site.control.revokeNode({ node: `${node.id}`, comment: '' });
  await node.ended;
  for (let number = 2; number <= 20; number++)
    t.match((await half.hear('answer')).value, { error: { code: 'NODE_REVOKED' } });
  half.say('send', { number: 21, node: `${node.id}`, type: 'train' }, content);
  t.match((await half.hear('answer')).value, { number: 21, error: { code: 'NODE_REVOKED' } });
  half.say('finished', {});
  await half.hear('over');
});

void t.test('a server half continues after a disk was full', async t => {
  const disk = createPowerCutStore();
  const site = await startHandSite(t, { store: disk.store });
  const supervisor = await site.supervise();
  const node = await site.node();
  const { run, half } = await site.running(supervisor);
  const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  half.say('send', { number: 1, node: `${node.id}`, type: 'train' }, content);
  await half.hear('accepted');
  await node.hear('deliver');
  half.say('send', { number: 2, node: 'nobody', type: 'train' }, content);
  await half.hear('answer');

  disk.failWrites(full);
  half.say('send', { number: 3, node: `${node.id}`, type: 'train' }, content);
  t.same((await half.hear('accepted')).value, { number: 2 });
  const { value } = await half.hear('answer');
  t.match(value, { number: 3, error: { code: 'STORE_FULL', message: /disk of the link is full/ } });
  t.notOk(
    half.heard.some(({ name }) => name === 'accepted'),
    'what is not on the disk is not accepted',
  );
  for (const number of [2, 3]) half.say('taken', { number });
  half.say('log', { sequence: 1, at: 1, level: 'info', text: 'waits' });
  node.reply(run.id, 1, 'answer');
  await node.flush();
  t.same(
    half.heard.map(({ name }) => name).filter(name => name !== 'archive'),
    [],
    'what is owed waits',
  );
  t.equal((await site.runs.get(run.id)).messagesAnswered, 2n, 'and the link answers');

  disk.failWrites(undefined);
  t.equal((await half.hear('answer')).body.toString(), 'answer');
  t.same(await node.hear('acknowledge'), { run: run.id, message: 1n });
  await half.hear('logged');
  half.say('send', { number: 4, node: `${node.id}`, type: 'train' }, content);
  t.equal((await node.hear('deliver')).message, 4n);
  half.say('finished', {});
  await half.hear('over');
});

void t.test('invalid bytes on the socket do not disturb other connections', async t => {
  const { site, supervisor } = await openBench(t);
  const { run, token, half } = await site.running(supervisor);
  for (const bytes of [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.alloc(100, 0xff),
    encodeFrame('send', { number: 1 }),
    encodeFrame('supervise', { protocol: 1, runs: 'all' }),
    encodeFrame('supervise', { protocol: 1, key: '0'.repeat(64) }),
    encodeFrame('supervise', { protocol: 2 }),
    encodeFrame('supervise', { protocol: 1 }),
  ]) {
    const socket = createConnection(site.socket);
    socket.on('error', () => undefined);
    socket.write(bytes);
    socket.resume();
    await new Promise(resolve => socket.once('close', resolve));
  }
  const again = await site.half(token);
  await half.closed;
  again.say('finished', {});
  await again.hear('over');
  t.equal((await site.finished(run)).outcome, 1);
});
