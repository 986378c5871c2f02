import t from 'tap';
import { isRollcallError, type ErrorCode } from '../../src/base/errors.js';
import { judgeSession, nextDueAt, pingTimes } from '../../src/link/sessions/ping-sweep.js';
import { createMemoryStore } from '../../src/store/memory.js';
import type { Change, Store } from '../../src/store/store.js';
import { createManualClock } from '../harness/manual-clock.js';
import { nextFrame, readyFrame } from '../harness/frames-by-hand.js';
import { makeProof, rawEnrollment } from '../harness/raw-enrollment.js';
import {
  enrollOn,
  newKey,
  sessionOn,
  startTestLink,
  statusName,
  type LiveNode,
} from '../harness/test-link.js';

async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | 'nothing'> {
  return promise.then(
    () => 'nothing' as const,
    (error: unknown) => (isRollcallError(error) ? error.code : 'INTERNAL'),
  );
}

async function endCode({ session }: Pick<LiveNode, 'session'>): Promise<string> {
  const end = await session.ended;
  return end.reason === 'closed' ? 'closed' : end.error.code;
}

/** A store that can hold the next commit that makes a node online or revoked, before it is done. */
function gatedStore(): {
  store: Store;
  hold(status: 'online' | 'revoked'): { reached: Promise<void>; release(): void };
} {
  const store = createMemoryStore();
  let gate: { status: string; reached: () => void; open: Promise<void> } | undefined;
  return {
    store: {
      ...store,
      async commit(changes, expectations) {
        const held = gate && makesNode(gate.status, changes) ? gate : undefined;
        held?.reached();
        await held?.open;
        await store.commit(changes, expectations);
      },
    },
    hold(status) {
      let release = (): void => undefined;
      let reached = (): void => undefined;
      const isReached = new Promise<void>(resolve => (reached = resolve));
      gate = { status, reached, open: new Promise<void>(resolve => (release = resolve)) };
      return {
        reached: isReached,
        release: () => {
          gate = undefined;
          release();
        },
      };
    },
  };
}

function makesNode(status: string, changes: readonly Change[]): boolean {
  return changes.some(change => change.type === 'put' && change.key.includes(`/status/${status}/`));
}

void t.test('the sweep pings, ends or keeps a session by its times', t => {
  const times = { pingEveryMs: 9_000, pongWithinMs: 4_000 };
  const session = {
    heardAt: 1_000,
    pingedAt: undefined as number | undefined,
    certificate: { notAfter: 1_000_000 },
  };
  t.equal(judgeSession(session, times, 9_999, 0), 'fine');
  t.equal(judgeSession(session, times, 10_000, 0), 'ping');
  t.equal(judgeSession({ ...session, pingedAt: 10_000 }, times, 14_000, 0), 'fine');
  t.equal(judgeSession({ ...session, pingedAt: 10_000 }, times, 14_001, 0), 'no answer');
  t.equal(judgeSession(session, times, 2_000, 999_999), 'fine');
  t.equal(judgeSession(session, times, 2_000, 1_000_000), 'certificate expired');
  t.ok(
    pingTimes.pingEveryMs + pingTimes.pongWithinMs + 2 * 500 <= 15_000,
    'a node that stops answering is offline within 15 s',
  );
  t.end();
});

void t.test('nothing is due for a session before the moment that its next slot is chosen by', t => {
  const times = { pingEveryMs: 9_000, pongWithinMs: 4_000 };
  const [heardAt, startedAt] = [1_000, 500_000];
  for (const pingedAt of [undefined, 1_000, 9_500])
    for (const notAfter of [startedAt + 3_000, startedAt + 600_000]) {
      const session = { heardAt, pingedAt, certificate: { notAfter } };
      const dueAt = nextDueAt(session, times, 2_000, startedAt);
      const verdictAt = (at: number) => judgeSession(session, times, at, startedAt + at - 2_000);
      t.equal(verdictAt(dueAt - 1), 'fine');
      t.not(verdictAt(dueAt + 1), 'fine');
    }
  t.end();
});

void t.test('presence of nodes', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock });

  await t.test('a node is created, online and offline, each with since and reason', async t => {
    const key = newKey();
    const { id, sinceMs } = await test.register(key);
    clock.advance(5_000);
    const live = await test.online(key);
    const online = await test.control.getNode({ node: `${id}` });
    t.equal(statusName(online), 'online');
    t.equal(online.reason, 'connected');
    t.equal(online.sinceMs, sinceMs + 5_000n);
    t.equal(online.address, '127.0.0.1');
    t.equal(live.session.welcome.nodeId, id);
    clock.advance(1_000);
    await live.session.close();
    const offline = await test.until(`${id}`, 'offline');
    t.equal(offline.reason, 'closed by node');
    t.equal(offline.sinceMs, sinceMs + 6_000n);
    const { transitions } = await test.control.listNodeHistory({ node: `${id}`, pageSize: 0, pageToken: '' });
    t.same(
      transitions.map(each => each.reason),
      ['closed by node', 'connected', 'registered'],
    );
  });

  await t.test('a node whose socket is cut is offline with "connection lost"', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const live = await test.online(key);
    await live.connection.close();
    t.match((await test.until(`${id}`, 'offline')).reason, /^(connection lost|closed by node)$/);
  });

  await t.test('a node that stops answering is offline after one unanswered ping', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    // It never answers pings.
    const connection = await test.connect(await test.enroll(key));
    connection.send(readyFrame());
    await nextFrame(connection, 'welcome');
    clock.advance(pingTimes.pingEveryMs + 500);
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
    clock.advance(pingTimes.pongWithinMs + 500);
    t.equal((await test.until(`${id}`, 'offline')).reason, 'no answer');
  });

  await t.test(
    'a pause of the link itself does not end the session of a node whose answer waits to be read',
    async t => {
      const key = newKey();
      const { id } = await test.register(key);
      const live = await test.online(key);
      clock.advance(pingTimes.pingEveryMs + 500);
      // The ping is out; the link sleeps longer than it would wait, and its sweep comes before it reads.
      clock.oversleep(pingTimes.pongWithinMs + 2_000);
      clock.advance(1);
      t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
      await enrollOn(live.connection, key, live.enrollment.generation);
      clock.advance(pingTimes.pongWithinMs);
      t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
      await live.session.close();
    },
  );

  await t.test('a node that answers its pings stays online', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const live = await test.online(key);
    for (let round = 0; round < 5; round += 1) {
      clock.advance(pingTimes.pingEveryMs + 500);
      // The pong is on its way back over a real socket: an exchange over the same connection is behind it.
      await enrollOn(live.connection, key, live.enrollment.generation + BigInt(round));
    }
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
  });

  await t.test('an unexpected frame ends the session', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const connection = await test.connect(await test.enroll(key));
    connection.send(readyFrame());
    await nextFrame(connection, 'welcome');
    connection.send(readyFrame());
    t.equal((await connection.over).code, 'PROTOCOL_INVALID');
    t.equal((await test.until(`${id}`, 'offline')).reason, 'protocol error');
  });

  await t.test('a first frame of an unexpected type ends the connection', async t => {
    const key = newKey();
    await test.register(key);
    const enrollment = await test.enroll(key);
    for (const frame of [
      { $case: 'pong', value: { sequence: 1n } },
      { $case: 'leave', value: {} },
      { $case: 'endTransfer', value: { transfer: 1 } },
    ] as const) {
      const connection = await test.connect(enrollment);
      connection.send(frame);
      t.equal((await connection.over).code, 'PROTOCOL_INVALID', frame.$case);
    }
  });
});

void t.test('certificates of sessions', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock, settings: { 'certificate-lifetime': '10m' } });

  await t.test('a session without a certificate is refused', async t => {
    t.equal(await codeOf(sessionOn(await test.connect())), 'CERTIFICATE_REFUSED');
  });

  await t.test('a session with the certificate of another node is a session of that node', async t => {
    const [one, two] = [newKey(), newKey()];
    const first = await test.register(one);
    const second = await test.register(two);
    const session = await sessionOn(await test.connect(await test.enroll(one)));
    t.equal(session.welcome.nodeId, first.id);
    t.equal(statusName(await test.control.getNode({ node: `${second.id}` })), 'created');
    await session.close();
  });

  await t.test('a certificate of another deployment with the same trust domain is refused', async t => {
    const other = await startTestLink(t);
    const key = newKey();
    await test.register(key);
    await other.register(key);
    t.equal(await codeOf(sessionOn(await test.connect(await other.enroll(key)))), 'CERTIFICATE_REFUSED');
  });

  await t.test('a certificate that comes with its issuer is refused, with a hint', async t => {
    const key = newKey();
    await test.register(key);
    const { certificateChain, sessionKey } = await test.enroll(key);
    const chain = { certificateChain: [certificateChain.join('')], sessionKey };
    await t.rejects(sessionOn(await test.connect(chain)), {
      code: 'CERTIFICATE_REFUSED',
      message: 'the connection carries a chain of certificates',
      hint: 'send the node certificate alone: the link knows its issuer',
    });
  });

  await t.test('a superseded certificate is refused: only the current and the next are valid', async t => {
    const key = newKey();
    await test.register(key);
    const oldest = await test.enroll(key);
    const next = await test.enroll(key);
    t.equal(await codeOf(sessionOn(await test.connect(oldest))), 'CERTIFICATE_REFUSED');
    const session = await sessionOn(await test.connect(next));
    await session.close();
  });

  await t.test('current and next certificate both open a session after a crash between them', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const current = await test.online(key);
    await current.session.close();
    await test.until(`${id}`, 'offline');
    const next = await test.enroll(key, current.enrollment.generation);
    // The node crashed before it stored the new one: the old one still opens.
    const old = await sessionOn(await test.connect(current.enrollment));
    await old.close();
    const fresh = await sessionOn(await test.connect(next));
    t.equal(
      await codeOf(sessionOn(await test.connect(current.enrollment))),
      'CERTIFICATE_REFUSED',
      'then it is over',
    );
    await fresh.close();
  });

  await t.test('a certificate expired by a second opens no session, and ends a live one', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const live = await test.online(key);
    const lifeMs = Number(live.session.welcome.expiresAtMs) - clock.now();
    clock.step(lifeMs - 1_000);
    clock.advance(500);
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
    clock.advance(1_000);
    t.equal(await endCode(live), 'SESSION_EXPIRED');
    t.equal((await test.until(`${id}`, 'offline')).reason, 'certificate expired');
    t.equal(await codeOf(sessionOn(await test.connect(live.enrollment))), 'CERTIFICATE_REFUSED');
    const back = await test.online(key);
    t.equal(back.session.welcome.nodeId, id, 'the registered key is enough to come back');
  });

  await t.test('a certificate that is valid in a second is refused', async t => {
    const key = newKey();
    await test.register(key);
    const enrollment = await test.enroll(key);
    clock.step(-301_000);
    t.equal(await codeOf(sessionOn(await test.connect(enrollment))), 'CERTIFICATE_REFUSED');
    clock.step(301_000);
  });
});

void t.test('two sessions of one node', async t => {
  const test = await startTestLink(t);

  await t.test('the newer session replaces the older at once, and the node stays online', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const first = await test.online(key);
    const { sinceMs } = await test.control.getNode({ node: `${id}` });
    const second = await test.online(key);
    t.equal(await endCode(first), 'SESSION_REPLACED');
    await first.connection.closed;
    const node = await test.control.getNode({ node: `${id}` });
    t.equal(statusName(node), 'online');
    t.equal(node.sinceMs, sinceMs);
    const { transitions } = await test.control.listNodeHistory({ node: `${id}`, pageSize: 0, pageToken: '' });
    t.same(
      transitions.map(each => each.reason),
      ['replaced', 'connected', 'registered'],
      'a takeover is in the history, and the ghost leaving is not',
    );
    await second.session.close();
    await test.until(`${id}`, 'offline');
  });

  await t.test('a hand-over on renewal changes no status and adds no history', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const old = await test.online(key);
    const before = await test.control.getNode({ node: `${id}` });
    const renewed = await enrollOn(old.connection, key, old.enrollment.generation);
    t.equal(renewed.generation, old.enrollment.generation + 1n);
    const session = await sessionOn(await test.connect(renewed));
    t.equal(await endCode(old), 'SESSION_REPLACED');
    const after = await test.control.getNode({ node: `${id}` });
    t.equal(statusName(after), 'online');
    t.equal(after.sinceMs, before.sinceMs);
    const { transitions } = await test.control.listNodeHistory({ node: `${id}`, pageSize: 0, pageToken: '' });
    t.equal(transitions.length, 2);
    await session.close();
  });

  await t.test('of twenty simultaneous sessions one is left, and it is the one in the registry', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const enrollment = await test.enroll(key);
    const connections = await Promise.all(Array.from({ length: 20 }, () => test.connect(enrollment)));
    const sessions = await Promise.all(connections.map(each => sessionOn(each).catch(() => undefined)));
    const ends = sessions.map(each => each?.ended.then(() => true));
    // All but one end; the last stays.
    let ended = 0;
    await new Promise<void>(resolve => {
      for (const end of ends) {
        void Promise.resolve(end ?? true).then(() => {
          ended += 1;
          if (ended === 19) resolve();
        });
      }
    });
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
    await Promise.all(connections.map(each => each.close()));
    await test.until(`${id}`, 'offline');
  });
});

void t.test('revocation of nodes', async t => {
  const gate = gatedStore();
  const test = await startTestLink(t, { store: gate.store });
  const revoke = (id: bigint) => test.control.revokeNode({ node: `${id}`, comment: 'test' });

  await t.test('a revocation ends the live session with its reason, and returns the count', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const live = await test.online(key);
    const answer = await revoke(id);
    t.equal(answer.sessionsEnded, 1);
    t.equal(await endCode(live), 'NODE_REVOKED', 'the agent hears it from the link');
    await live.connection.closed;
    const node = await test.control.getNode({ node: `${id}` });
    t.equal(statusName(node), 'revoked');
    t.match(
      await codeOf(sessionOn(await test.connect(live.enrollment))),
      /^(NODE_REVOKED|CERTIFICATE_REFUSED)$/,
    );
  });

  await t.test('a deleted node is disconnected, and its key is registered again as a new node', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const live = await test.online(key);
    t.match(await test.control.deleteNode({ node: `${id}` }), { node: { id }, sessionsEnded: 1 });
    t.equal(await endCode(live), 'NODE_REVOKED', 'the agent hears it from the link');
    await live.connection.closed;
    t.equal(await codeOf(test.control.getNode({ node: `${id}` })), 'NODE_NOT_FOUND');
    t.equal(await codeOf(test.enroll(key)), 'NODE_NOT_REGISTERED');
    const withOld = async () => codeOf(sessionOn(await test.connect(live.enrollment)));
    t.equal(await withOld(), 'CERTIFICATE_REFUSED', 'an agent with its certificate is to enroll again');
    const again = await test.register(key);
    t.not(again.id, id);
    t.equal(await withOld(), 'CERTIFICATE_REFUSED', 'also once its key is registered again');
    await test.online(key);
    t.equal(statusName(await test.control.getNode({ node: `${again.id}` })), 'online');
  });

  await t.test('a revocation before the challenge refuses the proof', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const connection = await test.connect();
    const raw = rawEnrollment(connection, key);
    await revoke(id);
    raw.hello();
    raw.proof(makeProof(connection, key, await raw.challenge()));
    t.equal((await raw.refused).code, 'NODE_REVOKED');
  });

  await t.test('a revocation between challenge and proof ends the stream at once', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const connection = await test.connect();
    const raw = rawEnrollment(connection, key);
    raw.hello();
    await raw.challenge();
    t.equal((await revoke(id)).sessionsEnded, 1);
    t.equal((await raw.refused).code, 'NODE_REVOKED');
    await connection.closed;
  });

  await t.test('a revocation after the certificate refuses the session', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const enrollment = await test.enroll(key);
    await revoke(id);
    t.match(await codeOf(sessionOn(await test.connect(enrollment))), /^(NODE_REVOKED|CERTIFICATE_REFUSED)$/);
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'revoked');
  });

  const newcomer = newKey();
  await test.register(newcomer);

  await t.test('a revocation during the commit of an opening session ends that session', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const connection = await test.connect(await test.enroll(key));
    const held = gate.hold('online');
    const opening = sessionOn(connection);
    await held.reached;
    const revoking = revoke(id);
    held.release();
    t.equal((await revoking).sessionsEnded, 1);
    await opening.catch(() => undefined);
    await connection.closed;
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'revoked');
  });

  await t.test('a session that opens during the commit of a revocation is refused', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const live = await test.online(key);
    const connection = await test.connect(live.enrollment);
    const held = gate.hold('revoked');
    const revoking = revoke(id);
    await held.reached;
    let isTold = false;
    void live.session.ended.then(() => (isTold = true));
    const opening = codeOf(sessionOn(connection));
    await test.enroll(newcomer);
    t.notOk(isTold, 'a node ends for ever when it hears so: not before that is on the disk');
    held.release();
    await revoking;
    t.match(await opening, /^(NODE_REVOKED|CERTIFICATE_REFUSED)$/);
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'revoked');
  });

  await t.test('a revoked node is never left online by a session that opens simultaneously', async t => {
    for (let round = 0; round < 12; round += 1) {
      const key = newKey();
      const { id } = await test.register(key);
      const enrollment = await test.enroll(key);
      const connection = await test.connect(enrollment);
      const revoking = async (): Promise<void> => {
        // Every other round one turn of the event loop later.
        if (round % 2 === 1) await new Promise(resolve => setImmediate(resolve));
        await revoke(id);
      };
      await Promise.all([sessionOn(connection).catch(() => undefined), revoking()]);
      await connection.closed;
      t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'revoked');
    }
  });

  await t.test('a node is revoked by its exact name or fingerprint, and twice without an error', async t => {
    const key = newKey();
    await test.register(key, { name: 'by-name' });
    await t.rejects(test.control.revokeNode({ node: 'by-nam', comment: '' }), {
      code: 'NODE_NOT_FOUND',
      hint: /whole id, name or/,
    });
    t.equal(statusName(await test.control.getNode({ node: 'by-nam' })), 'created');
    const first = await test.control.revokeNode({ node: 'by-name', comment: '' });
    t.equal(first.alreadyRevoked, false);
    const again = await test.control.revokeNode({ node: key.publicKey.fingerprint, comment: '' });
    t.match(again, { sessionsEnded: 0, alreadyRevoked: true });
    await t.rejects(test.control.revokeNode({ node: 'nobody', comment: '' }), { code: 'NODE_NOT_FOUND' });
  });
});

void t.test('events during the commit of an opening session', async t => {
  const gate = gatedStore();
  // Its sweep does nothing: what is offline here is so by the end of its connection.
  const test = await startTestLink(t, { store: gate.store, clock: createManualClock() });
  const bystander = newKey();
  await test.register(bystander);
  const openHeld = async () => {
    const key = newKey();
    const { id } = await test.register(key);
    const connection = await test.connect(await test.enroll(key));
    const held = gate.hold('online');
    const opening = codeOf(sessionOn(connection));
    await held.reached;
    return { id: `${id}`, connection, held, opening };
  };

  await t.test('a node that leaves while its session opens is offline afterwards', async t => {
    const { id, connection, held, opening } = await openHeld();
    await connection.close();
    // The link sees the end of the session before this enrollment.
    await test.enroll(bystander);
    held.release();
    await opening;
    t.equal((await test.until(id, 'offline')).reason, 'connection lost');
  });

  await t.test('a link that drains while a session opens has no live session afterwards', async t => {
    const { id, held, opening } = await openHeld();
    const draining = test.link.drain();
    held.release();
    await draining;
    t.equal(await opening, 'LINK_DRAINING');
    t.equal((await test.until(id, 'offline')).reason, 'connection lost');
  });
});

void t.test('a node that reconnects endlessly is delayed, and no other node', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock });
  const [key, other] = [newKey(), newKey()];
  await test.register(key);
  await test.register(other);
  const enrollment = await test.enroll(key);
  const come = async (): Promise<ErrorCode | 'nothing'> => {
    const connection = await test.connect(enrollment);
    const session = sessionOn(connection);
    const code = await codeOf(session);
    if (code === 'nothing') await (await session).close();
    await connection.close();
    return code;
  };
  for (let n = 0; n < 60; n += 1) t.equal(await come(), 'nothing');
  t.equal(await come(), 'RATE_LIMITED');
  await (await test.online(other)).session.close();
  clock.advance(10_000);
  t.equal(await come(), 'nothing');
  t.equal(await come(), 'RATE_LIMITED', 'one more each ten seconds');
});

void t.test('a draining link notifies every node, records it, and the next start reads it', async t => {
  const test = await startTestLink(t);
  const keys = [newKey(), newKey(), newKey()];
  for (const key of keys) await test.register(key);
  const live = await Promise.all(keys.map(key => test.online(key)));
  await test.link.drain();
  const pauses: number[] = [];
  for (const each of live) {
    const end = await each.session.ended;
    t.equal(end.reason, 'drained');
    if (end.reason === 'drained') pauses.push(end.pauseMs);
  }
  pauses.sort((one, other) => one - other);
  t.same(pauses, [253, 505, 758], 'a quarter, a half and three quarters of 1,010 ms');
  await test.link.close();
});
