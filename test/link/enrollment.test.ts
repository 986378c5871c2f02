import t from 'tap';
import { X509Certificate } from 'node:crypto';
import type { AuditEntry } from '../../src/audit-log/entry.js';
import { formatParty } from '../../src/audit-log/party.js';
import { isRollcallError, toRollcallError, type ErrorCode } from '../../src/base/errors.js';
import { readCertificateFields } from '../../src/identity/certificate-fields.js';
import { RateLimit } from '../../src/base/rate-limit.js';
import { listEventPage } from '../../src/link/audit/query.js';
import type { Proof } from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { deadlines } from '../../src/link/doors/node-port.js';
import { limits } from '../../src/protocol/limits.js';
import { maxForeignTrustDomains } from '../../src/link/enrollment/foreign-trust-domains.js';
import { createManualClock } from '../harness/manual-clock.js';
import { makeProof, rawEnrollment } from '../harness/raw-enrollment.js';
import { enrollOn, newKey, startTestLink, statusName } from '../harness/test-link.js';
import { createMemoryStore } from '../../src/store/memory.js';

async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | 'nothing'> {
  return promise.then(() => 'nothing' as const, codeOfError);
}

function codeOfError(error: unknown): ErrorCode {
  return isRollcallError(error) ? error.code : 'INTERNAL';
}

void t.test('a rate limit restores its budget over time, up to its maximum', t => {
  let now = 0;
  const rate = new RateLimit({ elapsed: () => now, burst: 3, refillMs: 100 });
  const take = (party = 'one') => rate.take(party, 'too often')?.retryAfterMs ?? 0;
  t.same([take(), take(), take(), take()], [0, 0, 0, 100]);
  t.equal(take('other'), 0, 'of another party');
  now = 150;
  t.same([take(), take()], [0, 50]);
  now = 1e9;
  t.same([take(), take(), take(), take()], [0, 0, 0, 100], 'after a long time, too');
  for (let n = 0; n < 100_000; n += 1) take(`party ${n}`);
  t.equal(take(), 100, 'many others make nobody’s count forgotten');
  t.end();
});

void t.test('a node that enrolls repeatedly is delayed, and no other node', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock });
  const [key, other] = [newKey(), newKey()];
  const { id } = await test.register(key, { name: 'eager' });
  await test.register(other);
  const events = async (): Promise<AuditEntry[]> =>
    (await listEventPage(test.store, 'default', { limit: 1000 })).entries.filter(
      ({ by }) => formatParty(by) === 'node:eager',
    );
  let generation = 0n;
  for (let n = 0; n < 30; n += 1) generation = (await test.enroll(key, generation)).generation;
  const before = (await events()).length;
  const refused = await test.enroll(key, generation).then(() => undefined, toRollcallError);
  t.match(refused, { code: 'RATE_LIMITED', hint: 'try again in 60 s', retryAfterMs: 60_000 });
  for (let n = 0; n < 20; n += 1) t.equal(await codeOf(test.enroll(key, generation)), 'RATE_LIMITED');
  t.equal((await events()).length, before, 'what is refused writes nothing by itself');
  t.equal((await test.enroll(other)).generation, 1n);
  clock.advance(60_000);
  t.equal((await test.enroll(key, generation)).generation, generation + 1n, 'one more each minute');
  t.equal(await codeOf(test.enroll(key, generation)), 'RATE_LIMITED');
  const told = async () => (await events()).filter(({ type }) => type === 'request.refused');
  while ((await told()).length === 0) await new Promise(setImmediate);
  t.match((await told())[0], { by: { id: `node:${id}` }, detail: { RATE_LIMITED: 21 } });
});

void t.test('a link warns of agents of other trust domains, of eight an hour and once of each', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock });
  const key = newKey();
  await test.register(key);
  /** The trust domains warned of since the last look, after a Hello with each. */
  const warnedOf = async (...claimed: readonly string[]): Promise<string[]> => {
    const before = test.logged.length;
    for (const trustDomain of claimed) {
      const connection = await test.connect();
      const raw = rawEnrollment(connection, key);
      raw.hello({ trustDomain });
      t.equal((await raw.challenge()).trustDomain, 'test.example', 'it gets its challenge as any other');
      raw.end();
      await raw.refused;
    }
    const lines = test.logged.slice(before).map(line => JSON.parse(line) as Record<string, unknown>);
    return lines
      .filter(({ level }) => level === 'warn')
      .map(({ msg }) => /^an agent says .* domain (\S+); this link is of test\.example$/.exec(String(msg)))
      .map(match => match?.[1] ?? 'another warning');
  };
  const malformed = ['Upper.example', 'a b', 'a/b', 'line\nend', '\u001b[2J', 'a'.repeat(256)];
  t.same(await warnedOf('', 'test.example', ...malformed), []);

  const names = Array.from({ length: maxForeignTrustDomains + 1 }, (_, n) => `fleet-${n}.internal`);
  t.same(await warnedOf(...names.flatMap(name => [name, name])), names.slice(0, 8), 'not of the ninth');
  clock.advance(3_600_000 - 1);
  t.same(await warnedOf('fleet-0.internal', 'fleet-8.internal'), []);
  clock.advance(1);
  t.same(await warnedOf(...names.toReversed()), names.toReversed().slice(0, 8), 'again after an hour');
  const { entries } = await listEventPage(test.store, 'default', { limit: 1000 });
  t.notMatch(JSON.stringify(entries), /fleet-/, 'the audit log holds no words of a stranger');

  const connection = await test.connect();
  const raw = rawEnrollment(connection, key);
  raw.hello({ trustDomain: 'fleet-0.internal' });
  raw.proof(makeProof(connection, key, await raw.challenge()));
  t.equal((await raw.enrolled()).generation, 1n, 'nothing is decided by what it says');
});

void t.test('enrollment on a link with one node port', async t => {
  const test = await startTestLink(t);

  for (const curve of ['P-256', 'P-384'] as const) {
    await t.test(`a registered ${curve} key gets a certificate for its session key alone`, async t => {
      const key = newKey(curve);
      const node = await test.register(key);
      t.equal(statusName(node), 'created');
      t.equal(node.fingerprint, key.publicKey.fingerprint);
      const enrollment = await test.enroll(key);
      t.equal(enrollment.nodeId, node.id);
      t.equal(enrollment.trustDomain, 'test.example');
      t.equal(enrollment.generation, 1n);
      const leaf = new X509Certificate(enrollment.certificateChain[0] ?? '');
      t.equal(leaf.subjectAltName, `URI:spiffe://test.example/node/${node.id}`);
      t.notOk(readCertificateFields(leaf.raw).spki.equals(key.publicKey.spki));
      t.equal(
        statusName(await test.control.getNode({ node: `${node.id}` })),
        'created',
        'enrolled is not yet online',
      );
    });
  }

  await t.test('a key that proves itself learns its own state: not registered, revoked', async t => {
    const stranger = newKey();
    t.equal(await codeOf(test.enroll(stranger)), 'NODE_NOT_REGISTERED');
    const key = newKey();
    const { id } = await test.register(key);
    await test.control.revokeNode({ node: `${id}`, comment: '' });
    t.equal(await codeOf(test.enroll(key)), 'NODE_REVOKED');
    t.equal(await codeOf(test.register(key)), 'NODE_ALREADY_REGISTERED');
    const again = await test.register(key, { again: true });
    t.not(again.id, id, 'a revoked key comes back only as a new node');
    t.equal((await test.enroll(key)).nodeId, again.id);
  });

  await t.test('a second proof on the same stream gets no answer', async t => {
    const key = newKey();
    await test.register(key);
    const connection = await test.connect();
    const raw = rawEnrollment(connection, key);
    raw.hello();
    const proof = makeProof(connection, key, await raw.challenge());
    raw.proof(proof);
    raw.proof(proof);
    t.equal((await raw.enrolled()).generation, 1n);
    const { nodes } = await test.control.listNodes({
      statuses: [],
      labels: {},
      text: '',
      pageSize: 0,
      pageToken: '',
    });
    t.ok(nodes.length > 0);
    t.equal((await test.enroll(key)).generation, 2n, 'the replay issued nothing');
  });

  await t.test(
    'a proof replayed on another connection, with its own or the old challenge, is refused',
    async t => {
      const key = newKey();
      await test.register(key);
      const one = await test.connect();
      const rawOne = rawEnrollment(one, key);
      rawOne.hello();
      const captured = makeProof(one, key, await rawOne.challenge());
      const two = await test.connect();
      const rawTwo = rawEnrollment(two, key);
      rawTwo.hello();
      await rawTwo.challenge();
      rawTwo.proof(captured);
      t.equal((await rawTwo.refused).code, 'PROOF_REFUSED');
    },
  );

  await t.test('a proof relayed from the connection of a man in the middle is refused', async t => {
    // The node signs what it saw on its connection to the man in the middle; he presents it on his to the link.
    const key = newKey();
    await test.register(key);
    const his = await test.connect();
    const nodes = await test.connect();
    const raw = rawEnrollment(his, key);
    raw.hello();
    const challenge = await raw.challenge();
    raw.proof(makeProof(nodes, key, challenge));
    t.equal((await raw.refused).code, 'PROOF_REFUSED');
  });

  await t.test('for every wrong proof the answer is the same', async t => {
    const key = newKey();
    await test.register(key);
    const other = newKey();
    const revoked = newKey();
    await test.control.revokeNode({ node: `${(await test.register(revoked)).id}`, comment: '' });
    const session = newKey();
    const wrong: [string, Parameters<typeof makeProof>[3], object?][] = [
      ['binding', { binding: Buffer.alloc(32, 7) }],
      ['binding type', { bindingType: 'tls-server-end-point' }],
      ['role', { role: 'session' }],
      ['tenant', { tenant: 'someone-else' }],
      ['trust domain', { trustDomain: 'other.example' }],
      ['nonce', { nonce: Buffer.alloc(32) }],
      ['node key', { nodeKey: other.publicKey.spki }],
      ['session key', { sessionKey: other.publicKey.spki }],
      ['generation', { generation: 9n }],
      ['generation said', {}, { generation: 1n }],
      ['empty signature', {}, { signature: Buffer.alloc(0) }],
      ['swapped signatures', {}, 'swap' as never],
      ['node key as session key', {}, 'same' as never],
      ['non-canonical session key', {}, { sessionPublicKey: session.publicKey.spki.subarray(0, 60) }],
    ];
    const answers = new Set<string>();
    for (const signer of [key, newKey(), revoked]) {
      for (const [what, changes, said] of wrong) {
        const connection = await test.connect();
        const raw = rawEnrollment(connection, signer);
        raw.hello();
        const challenge = await raw.challenge();
        let proof = makeProof(
          connection,
          signer,
          challenge,
          changes,
          (said as unknown) === 'same' ? signer : session,
        );
        if ((said as unknown) === 'swap') {
          proof = { ...proof, signature: proof.sessionSignature, sessionSignature: proof.signature };
        } else if (typeof said === 'object') proof = { ...proof, ...said };
        raw.proof(proof);
        const refusal = await raw.refused;
        t.equal(refusal.code, 'PROOF_REFUSED', what);
        answers.add(JSON.stringify([refusal.code, refusal.message, refusal.hint]));
        await connection.close();
      }
    }
    t.equal(answers.size, 1, 'registered, unknown and revoked keys hear the very same');
  });

  await t.test('an enrollment needs signatures of node key and session key', async t => {
    const key = newKey();
    await test.register(key);
    const [session, other] = [newKey(), newKey()];
    /** The outcome of a valid proof with these changes and with parts of another proof. */
    const outcomeOf = async (
      changes: Parameters<typeof makeProof>[3],
      mix: (good: Proof, bad: Proof) => Partial<Proof>,
    ): Promise<string> => {
      const connection = await test.connect();
      const raw = rawEnrollment(connection, key);
      raw.hello();
      const challenge = await raw.challenge();
      const good = makeProof(connection, key, challenge, {}, session);
      const bad = makeProof(connection, key, challenge, changes, session);
      raw.proof({ ...good, ...mix(good, bad) });
      const outcome = await raw.enrolled().then(() => 'enrolled', codeOfError);
      await connection.close();
      return outcome;
    };
    const wrong: Record<string, Parameters<typeof makeProof>[3]> = {
      'another challenge': { nonce: Buffer.alloc(32) },
      'another connection': { binding: Buffer.alloc(32, 7) },
      'another node': { nodeKey: other.publicKey.spki },
      'another session key': { sessionKey: other.publicKey.spki },
      'another generation': { generation: 9n },
    };
    for (const [what, changes] of Object.entries(wrong)) {
      const bySession = await outcomeOf(changes, (_, { sessionSignature }) => ({ sessionSignature }));
      t.equal(bySession, 'PROOF_REFUSED', `the session key signed for ${what}`);
      const byNode = await outcomeOf(changes, (_, { signature }) => ({ signature }));
      t.equal(byNode, 'PROOF_REFUSED', `the node key signed for ${what}`);
    }
    const mixes: Record<string, (good: Proof) => Partial<Proof>> = {
      'the session key did not sign': () => ({ sessionSignature: Buffer.alloc(0) }),
      'the node key did not sign': () => ({ signature: Buffer.alloc(0) }),
      'the node key signed twice': ({ signature }) => ({ sessionSignature: signature }),
      'the session key signed twice': ({ sessionSignature }) => ({ signature: sessionSignature }),
      'another session key is named': () => ({ sessionPublicKey: other.publicKey.spki }),
    };
    for (const [what, mix] of Object.entries(mixes)) t.equal(await outcomeOf({}, mix), 'PROOF_REFUSED', what);
    t.equal(await outcomeOf({}, () => ({})), 'enrolled', 'with both it is a proof');
  });

  await t.test('without a valid signature the store is asked nothing', async t => {
    const store = createMemoryStore();
    let reads = 0;
    const counting = {
      ...store,
      get: (key: string) => ((reads += 1), store.get(key)),
      list: (r: never) => ((reads += 1), store.list(r)),
    };
    const quiet = await startTestLink(t, { store: counting });
    const key = newKey();
    await quiet.register(key);
    for (const signer of [key, newKey()]) {
      const connection = await quiet.connect();
      const raw = rawEnrollment(connection, signer);
      raw.hello();
      const challenge = await raw.challenge();
      const before = reads;
      raw.proof(makeProof(connection, signer, challenge, { nonce: Buffer.alloc(32) }));
      t.equal((await raw.refused).code, 'PROOF_REFUSED');
      t.equal(reads, before);
    }
  });

  await t.test('malformed and unexpected frames are refused with their reason', async t => {
    const key = newKey();
    await test.register(key);
    const refusalOf = async (play: (raw: ReturnType<typeof rawEnrollment>) => void | Promise<void>) => {
      const connection = await test.connect();
      const raw = rawEnrollment(connection, key);
      await play(raw);
      return (await raw.refused).code;
    };
    const nothing = {
      signature: Buffer.alloc(0),
      sessionPublicKey: Buffer.alloc(0),
      sessionSignature: Buffer.alloc(0),
    };
    t.equal(await refusalOf(raw => raw.proof({ ...nothing, generation: 0n })), 'PROTOCOL_INVALID');
    t.equal(
      await refusalOf(async raw => {
        raw.hello();
        await raw.challenge();
        raw.hello();
      }),
      'PROTOCOL_INVALID',
    );
    t.equal(await refusalOf(raw => raw.hello({ protocolVersions: [] })), 'PROTOCOL_VERSION');
    t.equal(await refusalOf(raw => raw.hello({ protocolVersions: [2, 99] })), 'PROTOCOL_VERSION');
    t.equal(await refusalOf(raw => raw.hello({ bindingType: 'tls-unique' })), 'BINDING_REFUSED');
    t.equal(await refusalOf(raw => raw.hello({ bindingType: 'tls-server-end-point' })), 'BINDING_REFUSED');
    t.equal(await refusalOf(raw => raw.hello({ tenant: 'x'.repeat(300) })), 'PROTOCOL_INVALID');
    for (const publicKey of [Buffer.alloc(0), key.publicKey.spki.subarray(0, 90), Buffer.alloc(91, 4)]) {
      t.equal(await refusalOf(raw => raw.hello({ publicKey })), 'KEY_UNSUPPORTED');
    }
  });

  await t.test('the key of the link cannot enroll as a node', async t => {
    const { publicKey } = new X509Certificate(test.ca);
    const spki = publicKey.export({ type: 'spki', format: 'der' });
    const call = test.control.registerNode({ publicKey: spki, name: '', labels: {}, again: false });
    await t.rejects(call, { code: 'REQUEST_INVALID' });
  });

  await t.test('the binding tls-server-end-point is accepted only where it is allowed', async t => {
    const lenient = await startTestLink(t, { settings: { bindings: 'tls-exporter,tls-server-end-point' } });
    const key = newKey();
    await lenient.register(key);
    const connection = await lenient.connect();
    const raw = rawEnrollment(connection, key);
    raw.hello({ bindingType: 'tls-server-end-point' });
    const challenge = await raw.challenge();
    const { endPointBinding } = await import('../../src/identity/binding.js');
    const binding = endPointBinding(connection.peerCertificate.raw);
    raw.proof(makeProof(connection, key, challenge, { bindingType: 'tls-server-end-point', binding }));
    t.equal((await raw.enrolled()).generation, 1n);
  });
});

void t.test('deadlines of an enrollment', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock });
  const key = newKey();
  await test.register(key);

  await t.test('a stream without Hello ends at its deadline', async t => {
    const raw = rawEnrollment(await test.connect(), key);
    // One more exchange with the same link shows that the silent connection has arrived before time moves.
    await test.enroll(key);
    clock.advance(deadlines.idleMs + 1_000);
    t.equal((await raw.refused).code, 'DEADLINE_EXCEEDED');
  });

  await t.test('a stream without a proof ends at its deadline', async t => {
    const raw = rawEnrollment(await test.connect(), key);
    raw.hello();
    await raw.challenge();
    clock.advance(limits.proofMs + 1);
    t.equal((await raw.refused).code, 'DEADLINE_EXCEEDED');
  });

  await t.test('a challenge is valid for its stream and its time only', async t => {
    const connection = await test.connect();
    const raw = rawEnrollment(connection, key);
    raw.hello();
    const challenge = await raw.challenge();
    clock.advance(limits.proofMs + 1);
    await raw.refused;
    const later = await test.connect();
    const rawLater = rawEnrollment(later, key);
    rawLater.hello();
    await rawLater.challenge();
    rawLater.proof(makeProof(later, key, challenge));
    t.equal((await rawLater.refused).code, 'PROOF_REFUSED');
  });
});

void t.test('bounds of enrollment', async t => {
  const test = await startTestLink(t, { settings: { 'max-enrollments': '2' } });
  const key = newKey();
  await test.register(key);

  await t.test('concurrent enrollments are bounded, and a finished one frees its slot', async t => {
    const held = [rawEnrollment(await test.connect(), key), rawEnrollment(await test.connect(), key)];
    for (const each of held) {
      each.hello();
      await each.challenge();
    }
    t.equal(await codeOf(test.enroll(key)), 'LINK_BUSY');
    held[0]?.end();
    await held[0]?.refused;
    t.equal((await test.enroll(key)).generation, 1n);
    held[1]?.end();
  });

  await t.test('a connection runs one enrollment at a time', async t => {
    const connection = await test.connect();
    t.equal((await enrollOn(connection, key)).generation, 2n);
    t.equal((await enrollOn(connection, key, 2n)).generation, 3n);
    const raw = rawEnrollment(connection, key);
    raw.hello();
    await raw.challenge();
    raw.hello();
    t.equal((await raw.refused).code, 'PROTOCOL_INVALID');
  });
});
