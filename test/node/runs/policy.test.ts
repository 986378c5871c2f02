// Decisions of a node about runs without any I/O: version order, trusted apps, slots, log lines.
import fc from 'fast-check';
import t from 'tap';
import { signApp } from '../../../src/app-package/app-signature.js';
import { generatePrivateKey } from '../../../src/identity/private-key.js';
import { decideTrust, type AppClaim, type TrustRules } from '../../../src/node/runs/app-trust.js';
import { clipToBytes } from '../../../src/base/text.js';
import { compareVersions, isVersion } from '../../../src/node/runs/compare-versions.js';
import type { SentFrame } from '../../../src/node/connection.js';
import { LinkHolder, type LiveLink } from '../../../src/node/runs/link-holder.js';
import { Slots } from '../../../src/node/runs/runner-slots.js';
import * as machine from '../../../src/node/runs/runner-state.js';
import { RunLogs, runLogLimits } from '../../../src/node/runs/run-logs.js';
import type { NodeLog } from '../../../src/protocol/generated/rollcall/v1/link.js';
import { noObjects } from '../../harness/test-link.js';
import { createManualClock } from '../../harness/manual-clock.js';

void t.test('versions are in the order of semver.org §11', t => {
  const inOrder = [
    '1.0.0-alpha',
    '1.0.0-alpha.1',
    '1.0.0-alpha.beta',
    '1.0.0-beta',
    '1.0.0-beta.2',
    '1.0.0-beta.11',
    '1.0.0-rc.1',
    '1.0.0',
    '2.0.0',
    '2.1.0',
    '2.1.1',
    '2.1.10',
    '10.0.0',
  ];
  for (const [index, one] of inOrder.entries()) {
    for (const [position, other] of inOrder.entries())
      t.equal(Math.sign(compareVersions(one, other)), Math.sign(index - position), `${one} against ${other}`);
  }
  t.equal(compareVersions('1.0.0+build.5', '1.0.0+exp.sha'), 0, 'build metadata does not count');
  t.ok(compareVersions('1.0.0-99999999999999999999', '1.0.0-100000000000000000000') < 0, 'beyond 2^53');
  for (const none of [
    '',
    '1',
    '1.0',
    '1.0.0.0',
    'v1.0.0',
    '01.0.0',
    '1.0.0-01',
    '1.0.0-',
    '1.0.0-a..b',
    ' 1.0.0',
  ])
    t.notOk(isVersion(none), none);
  t.throws(() => compareVersions('1.0', '1.0.0'), TypeError);
  t.end();
});

const author = generatePrivateKey('P-256');
const stranger = generatePrivateKey('P-256');
const app = { name: 'digits', version: '1.2.0', digest: 'ab'.repeat(32) };
const none: TrustRules = { signers: [], any: false };

function claimOf(changes: Partial<AppClaim> = {}, key = author): AppClaim {
  const claim = { ...app, ...changes };
  return { signer: key.publicKey.spki, signature: signApp(key, claim), ...claim };
}

void t.test('a node runs no app by default', async t => {
  const decision = await decideTrust(none, claimOf());
  t.match(decision, { trusted: false, reason: /--trust-app-signer/ });
});

void t.test('a node runs apps of trusted signers and of its own folder', async t => {
  const mine = (lowestVersion?: string): TrustRules => ({
    signers: [{ key: author.publicKey, lowestVersion }],
    any: false,
  });
  const local = (changes: Partial<typeof app> = {}): TrustRules => ({
    signers: [],
    local: { ...app, ...changes },
    any: false,
  });
  const cases: readonly (readonly [string, TrustRules, AppClaim, string | RegExp])[] = [
    ['of a trusted signer', mine(), claimOf(), 'signer'],
    ['of the lowest version', mine('1.2.0'), claimOf(), 'signer'],
    ['of a later version', mine('1.2.0-rc.1'), claimOf(), 'signer'],
    ['of an older version', mine('1.10.0'), claimOf(), /older than 1\.10\.0/],
    ['of a prerelease of the lowest', mine('1.2.0'), claimOf({ version: '1.2.0-rc.1' }), /older/],
    ['of a stranger', mine(), claimOf({}, stranger), /does not trust its signer, SHA256:/],
    [
      'of a stranger who says to be the author',
      mine(),
      claimOf({ signature: signApp(stranger, app) }),
      /signature does not hold/,
    ],
    [
      'signed for another digest',
      mine(),
      claimOf({ signature: signApp(author, { ...app, digest: 'cd'.repeat(32) }) }),
      /does not hold/,
    ],
    [
      'signed for another name',
      mine(),
      claimOf({ signature: signApp(author, { ...app, name: 'other' }) }),
      /does not hold/,
    ],
    [
      'signed for another version',
      mine('1.0.0'),
      claimOf({ signature: signApp(author, { ...app, version: '0.9.0' }) }),
      /does not hold/,
    ],
    ['without a signature', mine(), claimOf({ signature: Buffer.alloc(0) }), /does not hold/],
    ['without a key', mine(), claimOf({ signer: Buffer.alloc(0) }), /cannot sign apps/],
    ['an invalid version', mine(), claimOf({ version: 'latest' }), /invalid version/],
    [
      'of no version, any allowed',
      { ...none, any: true },
      claimOf({ version: '\u001b[2J' }),
      /invalid version/,
    ],
    ['in the own folder', local(), claimOf({ signature: Buffer.alloc(0) }, stranger), 'local'],
    [
      'not in the own folder',
      local({ digest: 'cd'.repeat(32) }),
      claimOf(),
      /only the app of its own folder/,
    ],
    ['of the digest but another name', local({ name: 'other' }), claimOf(), /only the app/],
    ['any', { ...none, any: true }, claimOf({ signature: Buffer.alloc(0) }, stranger), 'any'],
    ['of a signer, with a folder', { ...mine(), local: { ...app, name: 'other' } }, claimOf(), 'signer'],
    [
      'the lower of two lines of one signer',
      { ...none, signers: [...mine('2.0.0').signers, ...mine('1.0.0').signers] },
      claimOf(),
      'signer',
    ],
  ];
  for (const [name, rules, claim, expected] of cases) {
    const decision = await decideTrust(rules, claim);
    if (typeof expected === 'string') t.match(decision, { trusted: true, by: expected }, name);
    else t.match(decision, { trusted: false, reason: expected }, name);
  }
});

void t.test('clipped text ends between two characters', t => {
  t.equal(clipToBytes('short', 5), 'short');
  t.equal(clipToBytes('ä'.repeat(10), 12), 'ääää…');
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 50 }),
      fc.integer({ min: 4, max: 60 }),
      (text, max) => {
        const clipped = clipToBytes(text, max);
        return Buffer.byteLength(clipped) <= max && Buffer.from(clipped).toString() === clipped;
      },
    ),
  );
  t.end();
});

void t.test('slots are given in order, and their holders are asked to give way', async t => {
  const slots = new Slots(2);
  const never = new AbortController().signal;
  const asked: string[] = [];
  const taken: string[] = [];
  const take = async (name: string, signal = never) => {
    const slot = await slots.take(() => asked.push(name), signal);
    taken.push(name);
    return slot;
  };
  const one = await take('one');
  const two = await take('two');
  const three = take('three');
  t.same(asked, ['one'], 'one waits, so one is asked');
  const quits = new AbortController();
  const four = take('four', quits.signal);
  const five = take('five');
  t.same(asked, ['one', 'two'], 'nobody is asked twice');
  quits.abort(new Error('quits'));
  await t.rejects(four, { message: 'quits' });
  t.equal(slots.waiting, 2);
  two.release();
  two.release();
  await three;
  t.same(taken, ['one', 'two', 'three']);
  one.release();
  await five;
  t.same(taken, ['one', 'two', 'three', 'five']);
  await t.rejects(take('six', quits.signal), { message: 'quits' });
  const [six, seven] = [take('six'), take('seven')];
  t.same(asked, ['one', 'two', 'three', 'five']);
  (await three).release();
  t.same(asked, ['one', 'two', 'three', 'five'], 'the one who came in is younger');
  (await five).release();
  await Promise.all([six, seven]);
  const eight = take('eight');
  t.equal(asked.at(-1), 'six');
  const nine = take('nine');
  t.equal(asked.at(-1), 'seven');
  (await six).release();
  await eight;
  t.equal(asked.at(-1), 'seven', 'as many are asked as wait');
  (await seven).release();
  await nine;
});

void t.test('a holder that takes its slot while others wait is asked at once', async t => {
  const slots = new Slots(1);
  const never = new AbortController().signal;
  const asked: string[] = [];
  const take = (name: string) => slots.take(() => asked.push(name), never);
  const one = await take('one');
  const [two] = [take('two'), take('three')];
  one.release();
  await two;
  t.same(asked, ['one', 'two']);
});

function liveLink() {
  const frames: SentFrame[] = [];
  let goOn: (() => void) | undefined;
  const live: LiveLink & { isFull: boolean } = {
    nodeId: 42n,
    objects: noObjects,
    isFull: false,
    send(frame) {
      frames.push(frame);
      return !live.isFull;
    },
    drained: () => new Promise(resolve => (goOn = resolve)),
  };
  const logs = (): NodeLog[] => frames.flatMap(frame => (frame.$case === 'log' ? [frame.value] : []));
  const texts = (): string[] => logs().flatMap(({ lines }) => lines.map(({ text }) => text));
  return { live, frames, logs, texts, drain: () => goOn?.() };
}

void t.test('log lines are batched, kept until they are taken, and sent again on the next session', t => {
  const clock = createManualClock();
  const link = new LinkHolder(clock);
  const logs = new RunLogs({ run: 7n, link, clock, firstSequence: 100 });
  logs.add(1, 'info', 'before there is a link');
  clock.advance(50);
  const first = liveLink();
  link.set(first.live);
  logs.sendAgain();
  logs.flush();
  logs.add(2, 'info', 'two');
  logs.add(3, 'error', 'three');
  clock.advance(runLogLimits.gatherMs);
  t.match(first.logs(), [
    { run: 7n, sequence: 100n, lines: [{ atMs: 1n, text: 'before there is a link' }] },
    { run: 7n, sequence: 101n, lines: [{ text: 'two' }, { level: 'error', text: 'three' }] },
  ]);
  logs.taken(101);
  const second = liveLink();
  link.set(second.live);
  logs.sendAgain();
  logs.flush();
  t.match(second.logs(), [{ sequence: 102n, lines: [{ text: 'three' }] }]);
  logs.flush();
  t.equal(second.logs().length, 1, 'once a session');
  logs.close();
  t.end();
});

void t.test('a frame of log lines stays below the limit, and waits for a slow link', async t => {
  const clock = createManualClock();
  const link = new LinkHolder(clock);
  const logs = new RunLogs({ run: 7n, link, clock, firstSequence: 1 });
  const slow = liveLink();
  slow.live.isFull = true;
  link.set(slow.live);
  for (let line = 0; line < 40; line++) logs.add(0, 'info', `${line} ${'ü'.repeat(10_000)}`);
  logs.flush();
  t.equal(slow.logs().length, 1);
  logs.flush();
  t.equal(slow.logs().length, 1, 'not before it has drained');
  slow.live.isFull = false;
  slow.drain();
  await new Promise(setImmediate);
  t.equal(slow.texts().length, 40);
  for (const { lines } of slow.logs())
    t.ok(lines.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0) <= 60 * 1024);
  t.ok(slow.texts().every(text => Buffer.byteLength(text) <= runLogLimits.lineBytes));
});

void t.test('the oldest log lines are dropped when too many wait, and a line states how many', t => {
  const clock = createManualClock();
  const link = new LinkHolder(clock);
  const logs = new RunLogs({ run: 7n, link, clock, firstSequence: 1 });
  const max = runLogLimits.lines;
  for (let line = 1; line <= max + 10; line++) logs.add(0, 'info', `line ${line}`);
  const { live, logs: sent, texts } = liveLink();
  link.set(live);
  logs.sendAgain();
  logs.flush();
  t.equal(texts().length, max);
  t.equal(texts()[0], '11 lines were dropped here on the node');
  t.equal(texts()[1], 'line 12');
  t.equal(texts().at(-1), `line ${max + 10}`);
  t.equal(sent()[0]?.sequence, 11n);
  for (let line = 0; line < 1_000; line++) logs.add(0, 'info', 'x'.repeat(20_000));
  const last = liveLink();
  link.set(last.live);
  logs.sendAgain();
  logs.flush();
  const bytes = last.texts().reduce((sum, text) => sum + text.length, 0);
  t.ok(bytes <= runLogLimits.bytes, `${bytes} bytes at most wait`);
  t.match(last.texts()[0], /^\d+ lines were dropped/);
  logs.taken(Number.MAX_SAFE_INTEGER);
  logs.add(0, 'info', 'after');
  const empty = liveLink();
  link.set(empty.live);
  logs.sendAgain();
  logs.flush();
  t.same(empty.texts(), ['after']);
  t.end();
});

void t.test('work that fails on one session is retried on the next, or after a pause', async t => {
  const clock = createManualClock();
  const failures: number[] = [];
  const link = new LinkHolder(clock, (_, retryInMs) => failures.push(retryInMs));
  const never = new AbortController();
  const [one, two] = [liveLink().live, liveLink().live];
  const tried: LiveLink[] = [];
  const work = link.persist(
    live => {
      tried.push(live);
      return tried.length < 4 ? Promise.reject(new Error('no')) : Promise.resolve('done');
    },
    () => false,
    never.signal,
  );
  const settle = () => new Promise(setImmediate);
  await settle();
  t.equal(tried.length, 0, 'without a link nothing is tried');
  link.set(one);
  await settle();
  link.set(two);
  await settle();
  t.same(tried, [one, two]);
  clock.advance(1_000);
  await settle();
  t.equal(tried.length, 3);
  clock.advance(2_000);
  t.equal(await work, 'done');
  t.same(failures, [500, 1_000, 2_000]);
  await t.rejects(
    link.persist(
      () => Promise.reject(new Error('no')),
      () => true,
      never.signal,
    ),
    { code: 'INTERNAL' },
  );
  link.set(undefined);
  const waiting = link.whenLive(never.signal);
  never.abort(new Error('stop'));
  await t.rejects(waiting, { message: 'stop' });
});

void t.test('a runner connects once, loads, and handles one message at a time', t => {
  const call = { message: { number: 7 } };
  const other = { message: { number: 8 } };
  const connecting: machine.RunnerState<typeof call> = { phase: 'connecting' };
  const loading = machine.connected(connecting);
  if (!loading) throw new Error('a first connection is accepted');
  t.equal(machine.connected(loading), undefined, 'a second connection is refused');
  t.same([connecting, loading].map(machine.isReady), [false, false]);
  const idle = machine.ready(loading);
  t.equal(machine.ready(idle), idle, 'a second "ready" changes nothing');
  t.equal(machine.answered(idle, 7), undefined, 'an idle runner has nothing to answer');
  const handling = machine.called(idle, call);
  t.equal(machine.callOf(handling), call);
  t.equal(machine.answered(handling, 8), undefined, 'another number is no answer');
  t.equal(machine.answered(handling, '7'), undefined, 'the number as text is no answer');
  const answering = machine.answered(handling, 7);
  if (!answering) throw new Error('the answer of the message in work is accepted');
  t.equal(machine.answered(answering, 7), undefined, 'a second answer is refused');
  t.same([idle, handling, answering].map(machine.isReady), [true, true, true]);
  t.equal(machine.callOf(machine.called(machine.settled(answering), other)), other);
  t.end();
});

void t.test('an ending runner keeps its call and its failure until its exit', t => {
  const call = { message: { number: 7 } };
  const exit = { code: 1, signal: null, note: '' };
  const loading: machine.RunnerState<typeof call> = { phase: 'loading' };
  const failed = machine.ended(machine.ended(loading, 'no such file'), 'too slow');
  t.equal(machine.isOver(failed), true);
  t.equal(machine.exited(failed, exit).failure, 'no such file', 'the first reason counts');
  t.equal(machine.exited(machine.ended(machine.ended(loading), 'late'), exit).failure, 'late');
  const handling = machine.called(machine.ready(loading), call);
  const ending = machine.ended(handling, 'it lied');
  t.equal(machine.callOf(ending), call, 'an answer under way may still be settled');
  t.equal(machine.exited(ending, exit).failure, undefined, 'a runner that was ready has loaded');
  t.equal(machine.callOf(machine.settled(ending)), undefined);
  t.equal(
    machine.callOf(machine.called(machine.settled(ending), call)),
    call,
    'a late call waits for the exit',
  );
  const gone = machine.exited(handling, exit);
  t.same(
    [machine.ready(gone), machine.called(gone, call), machine.ended(gone, 'late'), machine.settled(gone)],
    [gone, gone, gone, gone],
    'nothing changes a runner that has exited',
  );
  t.end();
});
