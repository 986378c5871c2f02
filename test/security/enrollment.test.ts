/**
 * Attacks on enrollment, against a link in a process of its own where an attack could end it. After each an honest
 * node still connects and the link is alive; at the end no secret was sent or logged.
 */
import t, { type Test } from 'tap';
import crypto, { createHash, createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { systemClock } from '../../src/base/clock.js';
import { createLog } from '../../src/base/log.js';
import { formatOpensshPrivate } from '../../src/identity/openssh.js';
import { toPkcs8Pem, type PrivateKey } from '../../src/identity/private-key.js';
import { encodeTranscript, transcriptLabel, type Transcript } from '../../src/identity/transcript.js';
import { createMemoryStore } from '../../src/store/memory.js';
import { openConnection, type LinkConnection } from '../../src/node/connection.js';
import type { Session } from '../../src/node/session.js';
import { Hello, type Challenge, type Proof } from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { defaultTenant, wireProtocol } from '../../src/protocol/limits.js';
import { statusName } from '../harness/control-calls.js';
import { helloBytes, proofBytes, readyBytes, type Ended, type RawFrames } from '../harness/raw-frames.js';
import { createManualClock } from '../harness/manual-clock.js';
import { codeOf } from '../harness/outcome.js';
import { makeProof, rawEnrollment } from '../harness/raw-enrollment.js';
import { framed as grpcFramed } from '../harness/raw-link.js';
import { nothingSecretIn } from '../harness/secrets.js';
import { openRaw, openSiege, portOf, tokenOf, type Siege } from '../harness/siege.js';
import { enrollOn, makeFolder, newKey, sessionOn, startTestLink } from '../harness/test-link.js';

/** All secrets that the tests of this file made. */
const secrets: Uint8Array[] = [];

function secretKey(curve: 'P-256' | 'P-384' = 'P-256'): PrivateKey {
  const key = newKey(curve);
  secrets.push(numberOf(key));
  return key;
}

/** The private number, 32 or 48 bytes. */
function numberOf(key: PrivateKey): Buffer {
  const { d = '' } = createPrivateKey(toPkcs8Pem(key)).export({ format: 'jwk' });
  return Buffer.from(d, 'base64url');
}

/** Sends Hello and waits for the challenge; then sends the result of `reply`, and returns how the link ended it. */
async function play(
  site: Pick<Siege, 'raw'>,
  key: PrivateKey,
  reply: (challenge: Challenge, exporter: Buffer) => Uint8Array[],
): Promise<Ended> {
  const peer = await site.raw();
  peer.send(helloBytes(key));
  const challenge = await peer.challenge();
  secrets.push(challenge.nonce, peer.exporter());
  peer.send(...reply(challenge, peer.exporter()));
  const ended = await peer.ended;
  peer.destroy();
  return ended;
}

/** A proof as the agent makes it, for changing. */
function goodProof(key: PrivateKey, challenge: Challenge, exporter: Buffer, session = newKey()): Proof {
  return makeProof({ exporter }, key, challenge, {}, session);
}

async function issuedOf(site: Pick<Siege, 'enroll'>, key: PrivateKey): Promise<bigint> {
  return (await site.enroll(key)).generation - 1n;
}

void t.test('attacks on the enrollment of a link in a process of its own', async t => {
  const site = await openSiege(t);
  const key = secretKey();
  const id = await site.register(key);
  let issued = 0n;
  /** Nothing was issued for the key since the last look, but for the look itself. */
  const nothingIssued = async (t: Test): Promise<void> => {
    t.equal(await issuedOf(site, key), issued, 'nothing was issued');
    issued += 1n;
  };

  await t.test('a proof captured before a restart is refused after it', async t => {
    const before = await site.connect();
    const first = rawEnrollment(before, key);
    first.hello();
    const challenge = await first.challenge();
    const captured = makeProof(before, key, challenge);
    await site.link.running.stop('SIGKILL');
    await site.restart();
    const replayed = await play(site, key, () => [proofBytes(captured)]);
    t.equal(replayed.code, 'PROOF_REFUSED');
    const forOldNonce = await play(site, key, (_, exporter) => [
      proofBytes(goodProof(key, challenge, exporter)),
    ]);
    t.equal(forOldNonce.code, 'PROOF_REFUSED', 'a nonce is good for the stream it was made for');
    await nothingIssued(t);
    await site.honest(t);
  });

  await t.test('a man in the middle with the key of the link itself gets no certificate', async t => {
    const relay = await startRelay(t, site);
    const connection = await openConnection({
      address: { host: '127.0.0.1', port: relay.port },
      serverRoots: [site.ca],
      timeoutMs: 10_000,
      clock: systemClock,
    });
    t.equal(await codeOf(enrollOn(connection, key)), 'PROOF_REFUSED');
    t.ok(relay.relayed() > 0, 'it went through him');
    await connection.close();
    await nothingIssued(t);
    await site.honest(t);
  });

  await t.test('the right nonce under a wrong label, version, order or encoding is refused', async t => {
    const session = newKey();
    for (const [what, encode] of Object.entries(wrongTranscripts)) {
      const ended = await play(site, key, (challenge, exporter) => {
        const transcript = (role: Transcript['role']): Transcript => ({
          role,
          trustDomain: challenge.trustDomain,
          tenant: defaultTenant,
          bindingType: 'tls-exporter',
          binding: exporter,
          nonce: challenge.nonce,
          nodeKey: key.publicKey.spki,
          sessionKey: session.publicKey.spki,
          generation: 0n,
        });
        return [
          proofBytes({
            signature: key.sign(encode(transcript('node'))),
            sessionPublicKey: session.publicKey.spki,
            sessionSignature: session.sign(encode(transcript('session'))),
            generation: 0n,
          }),
        ];
      });
      t.equal(ended.code, 'PROOF_REFUSED', what);
    }
    await nothingIssued(t);
    await site.honest(t);
  });

  await t.test('a field that is sent twice or with another type is read as signed, or refused', async t => {
    const victim = secretKey();
    await site.register(victim);
    // Two keys in one Hello: whichever is used, the attacker cannot sign as the victim.
    const both = (first: PrivateKey, second: PrivateKey): Uint8Array => {
      const hello = Hello.encode({
        ...Hello.decode(new Uint8Array()),
        publicKey: first.publicKey.spki,
      }).finish();
      return wrapped(helloField, Buffer.concat([hello, helloOf(second)]));
    };
    for (const [first, second] of [
      [victim, key],
      [key, victim],
    ] as const) {
      const peer = await site.raw();
      peer.send(both(first, second));
      const challenge = await peer.challenge();
      peer.send(proofBytes(goodProof(key, challenge, peer.exporter())));
      // The last field counts, as in every protobuf library: the attacker enrolls as himself or not at all.
      if (second === key) {
        const frame = await peer.next();
        t.equal(frame.$case === 'enrolled' && `${frame.value.nodeId}`, id);
        issued += 1n;
      } else t.equal((await peer.ended).code, 'PROOF_REFUSED');
      peer.destroy();
    }
    t.equal(await issuedOf(site, victim), 0n, 'nothing was issued for the victim');
    await nothingIssued(t);
  });

  await t.test('messages with an unknown type, no type or two types are refused', async t => {
    const session = newKey();
    const first = async (message: Uint8Array): Promise<string> => {
      const peer = await site.raw();
      peer.send(message);
      const { code } = await peer.ended;
      peer.destroy();
      return code;
    };
    t.equal(await first(Buffer.alloc(0)), 'PROTOCOL_INVALID', 'nothing in it');
    t.equal(await first(wrapped(15, Buffer.from(helloBytes(key)))), 'PROTOCOL_INVALID', 'unknown member');
    t.equal(await first(wrapped(15, Buffer.alloc(100, 1))), 'PROTOCOL_INVALID', 'unknown member');
    t.equal(await first(Buffer.from('ffffffffffffffffffff', 'hex')), 'PROTOCOL_INVALID', 'no protobuf');
    t.equal(await first(wrapped(helloField, Buffer.alloc(5, 0xff))), 'PROTOCOL_INVALID', 'a broken Hello');
    for (const protocolVersions of [[], [0], [2], [2 ** 31], [0xffffffff]]) {
      t.equal(await first(helloBytes(key, { protocolVersions })), 'PROTOCOL_VERSION');
    }
    // One message that is both: the last one counts, and it comes too early.
    const empty = {
      signature: Buffer.alloc(0),
      sessionPublicKey: Buffer.alloc(0),
      sessionSignature: Buffer.alloc(0),
    };
    const mixed = Buffer.concat([helloBytes(key), proofBytes({ ...empty, generation: 0n })]);
    t.equal(await first(mixed), 'PROTOCOL_INVALID');
    const unknown = await play(site, key, () => [wrapped(15, session.publicKey.spki)]);
    t.equal(unknown.code, 'PROTOCOL_INVALID', 'in the place of the proof');
    await nothingIssued(t);
    await site.honest(t);
  });

  await t.test('a field of Hello from a later protocol version is ignored', async t => {
    const later = wrapped(15, Buffer.from('fleet.example.org'));
    const peer = await site.raw();
    peer.send(wrapped(helloField, Buffer.concat([helloOf(key), later])));
    const challenge = await peer.challenge();
    peer.send(proofBytes(goodProof(key, challenge, peer.exporter())));
    t.equal((await peer.next()).$case, 'enrolled');
    issued += 1n;
    peer.destroy();
    await nothingIssued(t);
  });

  await t.test('frames of an unknown type open no session and end a live one', async t => {
    const enrollment = await site.enroll(key);
    issued += 1n;
    const tls = { cert: enrollment.certificateChain[0], key: enrollment.sessionKey };
    for (const [message, code] of [
      [Buffer.alloc(0), 'PROTOCOL_INVALID'],
      [wrapped(15, Buffer.alloc(8)), 'PROTOCOL_INVALID'],
      [readyBytes({ protocolVersion: 0 }), 'PROTOCOL_VERSION'],
      [readyBytes({ protocolVersion: 2 }), 'PROTOCOL_VERSION'],
      [readyBytes({ protocolVersion: 0xffffffff }), 'PROTOCOL_VERSION'],
    ] as const) {
      const peer = await site.raw({ tls });
      peer.send(message);
      t.equal((await peer.ended).code, code);
      peer.destroy();
    }
    t.equal(statusName(await site.control.getNode({ node: id })), 'created', 'it was never online');
    const peer = await site.raw({ tls });
    peer.send(readyBytes());
    t.equal((await peer.next()).$case, 'welcome');
    peer.send(wrapped(15, Buffer.alloc(8)));
    t.equal((await peer.ended).code, 'PROTOCOL_INVALID');
    peer.destroy();
    await site.honest(t);
  });

  await t.test('ECDSA signatures with edge values and malformed DER are refused on the wire', async t => {
    for (const curve of ['P-256', 'P-384'] as const) {
      const signer = secretKey(curve);
      await site.register(signer);
      for (const [what, spoil] of Object.entries(spoiledSignatures(curve))) {
        const ended = await play(site, signer, (challenge, exporter) => {
          const proof = goodProof(signer, challenge, exporter);
          return [proofBytes({ ...proof, signature: spoil(proof.signature) })];
        });
        t.equal(ended.code, 'PROOF_REFUSED', `${curve}: ${what}`);
      }
      t.equal(await issuedOf(site, signer), 0n);
    }
    await site.honest(t);
  });

  await t.test('a session key in a non-canonical form is refused, without effects on others', async t => {
    for (const [what, spki] of Object.entries(oddKeys())) {
      const ended = await play(site, key, (challenge, exporter) => {
        const session = newKey();
        const transcript = { ...makeProof({ exporter }, key, challenge, { sessionKey: spki }, session) };
        return [proofBytes({ ...transcript, sessionPublicKey: Buffer.from(spki) })];
      });
      t.equal(ended.code, 'PROOF_REFUSED', what);
      const peer = await site.raw();
      peer.send(helloBytes(key, { publicKey: Buffer.from(spki) }));
      t.equal((await peer.ended).code, 'KEY_UNSUPPORTED', `${what}, as node key`);
      peer.destroy();
    }
    await nothingIssued(t);
    await site.honest(t);
  });

  await t.test('of a hundred simultaneous registrations of one key exactly one succeeds', async t => {
    const { publicKey } = newKey();
    const request = { publicKey: publicKey.spki, name: '', labels: {}, again: false };
    const codes = await Promise.all(
      Array.from({ length: 100 }, () => codeOf(site.control.registerNode(request))),
    );
    t.equal(codes.filter(code => code === 'nothing').length, 1);
    t.equal(codes.filter(code => code === 'NODE_ALREADY_REGISTERED').length, 99);
    const { nodes } = await site.control.listNodes({
      statuses: [],
      labels: {},
      text: publicKey.fingerprint,
      pageSize: 0,
      pageToken: '',
    });
    t.equal(nodes.length, 1);
  });

  await t.test(
    'keys of the link, and keys that are not public keys of nodes, are refused and not quoted',
    async t => {
      const file = (name: string): Promise<string> => readFile(join(site.folder, name), 'utf8');
      const own = await Promise.all(['ca.crt', 'server.pem', 'data/authority.crt'].map(file));
      const register = async (publicKey: Uint8Array, name = ''): Promise<{ code: string; text: string }> => {
        const request = { publicKey: Buffer.from(publicKey), name, labels: {}, again: false };
        const error = await site.control.registerNode(request).then(
          () => new Error('accepted'),
          (thrown: unknown) => thrown as Error,
        );
        const { hint = '', code = '' } = error as { hint?: string; code?: string };
        return { code, text: `${error.message} ${hint}` };
      };
      for (const pem of own) {
        const { publicKey } = new X509Certificate(pem);
        const { code } = await register(publicKey.export({ type: 'spki', format: 'der' }));
        t.equal(code, 'REQUEST_INVALID', 'a key of the link');
      }
      const spoken: string[] = [];
      for (const [what, spki] of Object.entries(oddKeys())) {
        const { code, text } = await register(spki);
        t.equal(code, 'KEY_UNSUPPORTED', what);
        spoken.push(text);
      }
      const pasted = newKey();
      const secret = numberOf(pasted);
      secrets.push(secret);
      const pkcs8 = createPrivateKey(toPkcs8Pem(pasted));
      const forms = {
        'PKCS#8 PEM': Buffer.from(toPkcs8Pem(pasted)),
        'PKCS#8 DER': pkcs8.export({ type: 'pkcs8', format: 'der' }),
        'SEC1 PEM': Buffer.from(pkcs8.export({ type: 'sec1', format: 'pem' })),
        'SEC1 DER': pkcs8.export({ type: 'sec1', format: 'der' }),
        OpenSSH: Buffer.from(formatOpensshPrivate(pasted, 'pasted')),
      };
      for (const [what, bytes] of Object.entries(forms)) {
        const { code, text } = await register(bytes);
        t.equal(code, 'KEY_UNSUPPORTED', what);
        spoken.push(text);
      }
      // In the wrong field, where text is expected.
      const inName = await register(newKey().publicKey.spki, toPkcs8Pem(pasted));
      t.equal(inName.code, 'REQUEST_INVALID', 'a private key as the name');
      const asked = await site.control
        .getNode({ node: toPkcs8Pem(pasted) })
        .catch((error: unknown) => error as Error);
      t.equal((asked as { code?: string }).code, 'NODE_NOT_FOUND');
      nothingSecretIn(
        t,
        [...spoken, inName.text, (asked as Error).message],
        [secret],
        'the answers do not repeat it',
      );
      await site.honest(t);
    },
  );

  await t.test('after an invalid message a valid one on the same stream is not accepted', async t => {
    const bad = await play(site, key, (challenge, exporter) => {
      const proof = goodProof(key, challenge, exporter);
      return [proofBytes({ ...proof, generation: 7n }), proofBytes(proof), proofBytes(proof)];
    });
    t.equal(bad.code, 'PROOF_REFUSED');
    const peer = await site.raw();
    peer.send(helloBytes(key, { publicKey: Buffer.alloc(91, 4) }), helloBytes(key));
    t.equal((await peer.ended).code, 'KEY_UNSUPPORTED');
    peer.destroy();
    await nothingIssued(t);
    await site.honest(t);
  });

  await t.test('no header authenticates a caller', async t => {
    const token = await tokenOf(site);
    secrets.push(Buffer.from(token.slice(token.lastIndexOf('.') + 1), 'base64url'));
    for (const headers of skippingHeaders(id, token)) {
      const what = JSON.stringify(headers).replaceAll(token, '…');
      // The token itself is good where a token is wanted, and only there.
      if (headers['authorization']?.includes(token)) continue;
      const control = await site.rawControl();
      const list = control.call('/rollcall.v1.Control/ListNodes', grpcFramed(Buffer.alloc(0)), headers);
      t.equal((await list.status).code, 'TOKEN_REFUSED', what);
      control.destroy();
      t.equal((await site.http('/metrics', headers)).status, 401, what);
    }
    await nothingIssued(t);
    await site.honest(t);
  });

  await t.test('no secret is in the log after all attacks, and the audit log has counted them', async t => {
    const told = site.logged();
    t.equal(await site.link.running.stop('SIGTERM'), 0);
    const audit = await site.audit();
    nothingSecretIn(t, told, secrets, `${told.length} lines of log`);
    nothingSecretIn(
      t,
      audit.map(entry => JSON.stringify(entry)),
      secrets,
      `${audit.length} entries of the audit log`,
    );
    const refused = audit.filter(({ type }) => type === 'peer.refused');
    t.same([...new Set(refused.map(({ subject }) => subject))], ['127.0.0.1'], 'nothing changed who it was');
    t.ok(refused.some(({ detail }) => Number(detail['PROOF_REFUSED']) > 20));
    for (const type of ['node.clone-suspected', 'node.revoked'])
      t.notOk(audit.some(each => each.type === type));
  });
});

void t.test('a proof for one replica is refused by another', async t => {
  const folder = await makeFolder(t);
  const store = createMemoryStore();
  const one = await startTestLink(t, { folder, store });
  const two = await startTestLink(t, { folder, store });
  const key = newKey();
  const { id } = await one.register(key);
  const atOne = await one.connect();
  const raw = rawEnrollment(atOne, key);
  raw.hello();
  const challenge = await raw.challenge();
  const captured = makeProof(atOne, key, challenge);
  for (const reuse of ['as it is', 'signed again for the other connection'] as const) {
    const atTwo = await two.connect();
    const elsewhere = rawEnrollment(atTwo, key);
    elsewhere.hello();
    await elsewhere.challenge();
    elsewhere.proof(reuse === 'as it is' ? captured : makeProof(atTwo, key, challenge));
    t.equal((await elsewhere.refused).code, 'PROOF_REFUSED', reuse);
  }
  raw.proof(captured);
  const { nodeId } = await raw.enrolled();
  t.equal(nodeId, id, 'at its own it is good');
  const session = await sessionOn(await two.connect(await one.enroll(key)));
  t.equal(session.welcome.nodeId, id, 'they are replicas: what one issued the other accepts');
  await session.close();
});

void t.test(
  'registered, unknown and revoked keys get the same answer without the private key, at the same cost',
  async t => {
    const lines: string[] = [];
    const store = createMemoryStore();
    const asked: string[] = [];
    const counting = {
      ...store,
      get: (key: string) => (asked.push('get'), store.get(key)),
      list: (range: Parameters<typeof store.list>[0]) => (asked.push('list'), store.list(range)),
      commit: (...commit: Parameters<typeof store.commit>) => (asked.push('commit'), store.commit(...commit)),
    };
    const log = createLog({
      level: 'trace',
      name: 'link',
      destination: { write: line => void lines.push(line) },
    });
    const test = await startTestLink(t, { store: counting, log });
    const checked = countVerifications(t);

    for (const curve of ['P-256', 'P-384'] as const) {
      const keys = {
        registered: newKey(curve),
        online: newKey(curve),
        revoked: newKey(curve),
        unknown: newKey(curve),
      };
      for (const key of [keys.registered, keys.online, keys.revoked]) await test.register(key);
      const live = await test.online(keys.online);
      await test.control.revokeNode({ node: keys.revoked.publicKey.fingerprint, comment: '' });
      const seen: Record<string, unknown> = {};
      for (const [what, key] of Object.entries(keys)) {
        // Not the holder of the key: somebody who knows only its public half.
        const thief = newKey(curve);
        const peer = await openRaw(test.link.addresses.node.port, test.ca);
        peer.send(helloBytes(key));
        const challenge = await peer.challenge();
        const before = { asked: asked.length, checked: checked(), lines: lines.length };
        const proof = goodProof(key, challenge, peer.exporter());
        const forged = thief.sign(encodeTranscript(transcriptOf(key, challenge, peer.exporter(), proof)));
        peer.send(proofBytes({ ...proof, signature: forged }));
        const { code, heard } = await peer.ended;
        seen[what] = {
          code,
          heard,
          octets: heard.length,
          asked: asked.slice(before.asked),
          checked: checked() - before.checked,
          said: lines.slice(before.lines).map(line => (JSON.parse(line) as { msg: string }).msg),
        };
        peer.destroy();
      }
      for (const what of ['online', 'revoked', 'unknown'])
        t.same(seen[what], seen['registered'], `${curve}: ${what}`);
      t.match(
        seen['unknown'],
        { asked: [], checked: 2, said: [] },
        'two signatures are checked and nothing is asked',
      );
      t.match(JSON.stringify(seen['unknown']), /PROOF_REFUSED/);
      await live.connection.close();
    }
  },
);

void t.test('challenges without an answer', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock, settings: { 'max-enrollments': '16' } });
  const key = newKey();
  await test.register(key);
  /** Connections that wait for their proof. */
  const hold = async (from: string, count: number): Promise<RawFrames[]> => {
    const peers: RawFrames[] = [];
    for (let held = 0; held < count; held += 1) {
      const peer = await openRaw(test.link.addresses.node.port, test.ca, { from });
      peers.push(peer);
      peer.send(helloBytes(newKey()));
      await peer.challenge();
    }
    return peers;
  };
  const end = (...peers: RawFrames[]): Promise<unknown> =>
    Promise.all(
      peers.map(peer => {
        const closed = once(peer.tls, 'close');
        peer.destroy();
        return closed;
      }),
    );

  await t.test('one address that holds every enrollment slot does not lock out another', async t => {
    const flood = await hold('127.0.0.66', 16);
    const honest = await Promise.all([test.enroll(key), test.enroll(key), test.enroll(key)]);
    t.same(honest.map(({ generation }) => generation).sort(), [1n, 2n, 3n]);
    await end(...flood);
  });

  await t.test('several addresses that hold every enrollment slot do not lock out another', async t => {
    const floods = [await hold('127.0.0.66', 6), await hold('127.0.0.67', 6), await hold('127.0.0.68', 4)];
    t.equal((await test.enroll(key)).generation, 4n);
    await end(...floods.flat());
  });

  await t.test('an enrollment that is evicted is refused with LINK_BUSY, and can be repeated', async t => {
    const connection = await test.connect();
    const slow = rawEnrollment(connection, key);
    slow.hello();
    const challenge = await slow.challenge();
    // His own address holds the most, and he was the first of it.
    const floods = [await hold('127.0.0.1', 12), await hold('127.0.0.66', 2), await hold('127.0.0.67', 2)];
    slow.proof(makeProof(connection, key, challenge));
    t.equal((await slow.refused).code, 'LINK_BUSY');
    await end(...floods.flat());
    t.equal((await test.enroll(key)).generation, 5n);
  });

  await t.test('behind one address a new enrollment waits until the oldest is idle', async t => {
    const flood = await hold('127.0.0.1', 16);
    t.equal(await codeOf(test.enroll(key)), 'LINK_BUSY');
    clock.advance(2_000);
    t.equal((await test.enroll(key)).generation, 6n);
    await end(...flood);
  });
});

void t.test('a node revoked at any moment between Hello and Welcome has no live session', async t => {
  const test = await startTestLink(t);
  let opened = 0;
  for (let round = 0; round < 24; round += 1) {
    const key = newKey();
    const { id } = await test.register(key);
    const first = await test.connect();
    let second: LinkConnection | undefined;
    const climb = async (): Promise<Session> => {
      second = await test.connect(await enrollOn(first, key));
      return sessionOn(second);
    };
    const climbing = climb().catch(() => undefined);
    // Each round a little further on its way; the order of things decides, not the time.
    for (let turns = 0; turns < round; turns += 1) await new Promise(resolve => setImmediate(resolve));
    await test.control.revokeNode({ node: `${id}`, comment: '' });
    const session = await climbing;
    if (session) {
      opened += 1;
      const end = await session.ended;
      t.equal(end.reason === 'ended' && end.error.code, 'NODE_REVOKED');
      await second?.closed;
    }
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'revoked', `round ${round}`);
    // eslint-disable-next-line @typescript-eslint/await-thenable
    await Promise.all([first, second].map(each => each?.close()));
  }
  t.ok(opened < 24, `${opened} got in before, none was left`);
});

/** TLS that ends at the man in the middle, who shows the link's own certificate and goes on to the link himself. */
async function startRelay(t: Test, site: Siege): Promise<{ port: number; relayed(): number }> {
  let octets = 0;
  const [cert, key] = await Promise.all(
    ['server.pem', 'server.key'].map(name => readFile(join(site.folder, name))),
  );
  const server = createTlsServer(
    { cert, key, ALPNProtocols: [wireProtocol], minVersion: 'TLSv1.3' },
    inside => {
      const port = portOf(site.link.node);
      const outside = connectTls({ host: '127.0.0.1', port, ca: site.ca, ALPNProtocols: [wireProtocol] });
      for (const each of [inside, outside]) each.on('error', () => undefined);
      inside.on('data', (chunk: Buffer) => {
        octets += chunk.length;
        outside.write(chunk);
      });
      outside.pipe(inside);
      inside.on('close', () => outside.destroy());
      outside.on('close', () => inside.destroy());
    },
  );
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const address = server.address();
  return { port: typeof address === 'object' && address ? address.port : 0, relayed: () => octets };
}

/** Of NodeFrame. */
const helloField = 6;

/** A Hello without the frame around it. */
function helloOf(key: PrivateKey): Uint8Array {
  const { frame } = NodeFrame.decode(helloBytes(key));
  if (frame?.$case !== 'hello') throw new Error('no hello');
  return Hello.encode(frame.value).finish();
}

/** A protobuf field of length-delimited bytes. */
function wrapped(number: number, bytes: Uint8Array): Buffer {
  const length: number[] = [];
  for (let rest = bytes.length; ; rest >>>= 7) {
    length.push(rest > 127 ? (rest & 127) | 128 : rest);
    if (rest <= 127) break;
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes]);
}

function transcriptOf(key: PrivateKey, challenge: Challenge, binding: Buffer, proof: Proof): Transcript {
  return {
    role: 'node',
    trustDomain: challenge.trustDomain,
    tenant: defaultTenant,
    bindingType: 'tls-exporter',
    binding,
    nonce: challenge.nonce,
    nodeKey: key.publicKey.spki,
    sessionKey: proof.sessionPublicKey,
    generation: proof.generation,
  };
}

/** Ways to write the right fields wrong. */
const wrongTranscripts: Readonly<Record<string, (transcript: Transcript) => Buffer>> = {
  'another purpose': transcript => relabelled(transcript, 'rollcall rekey v1'),
  'another version': transcript => relabelled(transcript, 'rollcall enroll v2'),
  'a label cut short': transcript => relabelled(transcript, 'rollcall enroll v'),
  'no label': transcript => encodeTranscript(transcript).subarray(4 + transcriptLabel.length),
  'one more field': transcript => Buffer.concat([encodeTranscript(transcript), Buffer.alloc(4)]),
  'without lengths': ({ role, binding, nonce, nodeKey, sessionKey }) =>
    Buffer.concat([
      Buffer.from(transcriptLabel + role),
      binding,
      nonce,
      nodeKey,
      sessionKey,
      Buffer.alloc(8),
    ]),
  'binding and nonce swapped': ({ binding, nonce, ...rest }) =>
    encodeTranscript({ ...rest, binding: nonce, nonce: binding }),
  'keys swapped': ({ nodeKey, sessionKey, ...rest }) =>
    encodeTranscript({ ...rest, nodeKey: sessionKey, sessionKey: nodeKey }),
  'its hash': transcript => createHash('sha256').update(encodeTranscript(transcript)).digest(),
  'the nonce alone': ({ nonce }) => Buffer.from(nonce),
  nothing: () => Buffer.alloc(0),
};

function relabelled(transcript: Transcript, label: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(label.length);
  const rest = encodeTranscript(transcript).subarray(4 + transcriptLabel.length);
  return Buffer.concat([length, Buffer.from(label), rest]);
}

const orders = {
  'P-256': 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  'P-384':
    0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
} as const;

function integer(value: bigint): Buffer {
  let hex = value.toString(16);
  if (hex.length % 2 === 1) hex = `0${hex}`;
  const bytes = Buffer.from(hex, 'hex');
  const minimal = bytes.length > 0 && (bytes[0] ?? 0) > 127 ? Buffer.concat([Buffer.alloc(1), bytes]) : bytes;
  return Buffer.concat([Buffer.from([2, minimal.length]), minimal]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([0x30, body.length]), body]);
}

/** r and s of a signature in DER. */
function numbersOf(signature: Buffer): [bigint, bigint] {
  const rLength = signature[3] ?? 0;
  const r = signature.subarray(4, 4 + rLength);
  const s = signature.subarray(6 + rLength);
  return [BigInt(`0x${r.toString('hex')}`), BigInt(`0x${s.toString('hex')}`)];
}

function spoiledSignatures(curve: keyof typeof orders): Record<string, (good: Buffer) => Buffer> {
  const n = orders[curve];
  const width = curve === 'P-256' ? 32 : 48;
  const fixed = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(2 * width, '0'), 'hex');
  const of = (change: (r: bigint, s: bigint) => [bigint, bigint]) => (good: Buffer) =>
    sequence(...change(...numbersOf(good)).map(integer));
  return {
    'r is zero': of((_, s) => [0n, s]),
    's is zero': of(r => [r, 0n]),
    'both are zero': of(() => [0n, 0n]),
    'r and s are one': of(() => [1n, 1n]),
    'r is the order': of((_, s) => [n, s]),
    's is the order': of(r => [r, n]),
    'r plus the order': of((r, s) => [r + n, s]),
    's plus the order': of((r, s) => [r, s + n]),
    'a byte after it': good => Buffer.concat([good, Buffer.alloc(1)]),
    'a long length': good => Buffer.concat([Buffer.from([0x30, 0x81]), good.subarray(1)]),
    'an indefinite length': good =>
      Buffer.concat([Buffer.from([0x30, 0x80]), good.subarray(2), Buffer.alloc(2)]),
    'a zero too many': good => {
      const [r, s] = numbersOf(good);
      const padded = integer(r);
      const longer = Buffer.concat([Buffer.from([2, (padded[1] ?? 0) + 1, 0]), padded.subarray(2)]);
      return sequence(longer, integer(s));
    },
    'r below zero': good => {
      const [r, s] = numbersOf(good);
      const negative = fixed(r | (1n << BigInt(8 * width - 1)));
      return sequence(Buffer.concat([Buffer.from([2, negative.length]), negative]), integer(s));
    },
    'three numbers': good => sequence(...numbersOf(good).map(integer), integer(1n)),
    'as two fixed numbers': good => Buffer.concat(numbersOf(good).map(fixed)),
    'fifteen thousand bytes': () => Buffer.alloc(15_000, 0x30),
    empty: () => Buffer.alloc(0),
  };
}

/** Invalid keys, in SubjectPublicKeyInfo or in forms that are mistaken for it. */
function oddKeys(): Record<string, Buffer> {
  const { spki } = newKey().publicKey;
  const spkiOf = (name: 'P-521' | 'secp256k1'): Buffer =>
    generateKeyPairSync('ec', { namedCurve: name }).publicKey.export({ type: 'spki', format: 'der' });
  const explicit = generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' });
  const point = spki.subarray(26);
  const compressed = Buffer.concat([
    Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
    Buffer.from([2 + ((point[64] ?? 0) & 1)]),
    point.subarray(1, 33),
  ]);
  const changed = (at: number, value: number): Buffer => {
    const copy = Buffer.from(spki);
    copy[at] = value;
    return copy;
  };
  return {
    'a point off its curve': changed(90, (spki[90] ?? 0) ^ 1),
    'coordinates beyond the field': Buffer.concat([spki.subarray(0, 27), Buffer.alloc(64, 0xff)]),
    'zero coordinates': Buffer.concat([spki.subarray(0, 27), Buffer.alloc(64)]),
    'a compressed point': compressed,
    'a hybrid point': changed(26, 6 + ((spki[90] ?? 0) & 1)),
    'a byte after it': Buffer.concat([spki, Buffer.alloc(1)]),
    'one byte less': spki.subarray(0, 90),
    'the bare point': point,
    'the name of the other curve': Buffer.concat([newKey('P-384').publicKey.spki.subarray(0, 24), point]),
    'explicit parameters': explicit.publicKey.export({ type: 'spki', format: 'der' }),
    'P-521': spkiOf('P-521'),
    secp256k1: spkiOf('secp256k1'),
    Ed25519: generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'der' }),
    RSA: generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({
      type: 'spki',
      format: 'der',
    }),
    nothing: Buffer.alloc(0),
  };
}

/** Headers that have opened doors elsewhere. */
function skippingHeaders(id: string, token: string): Record<string, string>[] {
  return [
    { 'user-agent': 'grpc_health_probe/0.4.25' },
    {
      'x-original-url': '/healthz',
      'x-rewrite-url': '/healthz',
      'x-original-uri': '/grpc.health.v1.Health/Check',
    },
    { 'x-forwarded-for': '10.9.9.9', forwarded: 'for=10.9.9.9;proto=https', 'x-real-ip': '10.9.9.9' },
    { 'user-agent': 'kube-probe/1.30' },
    { 'x-forwarded-client-cert': `URI=spiffe://test.example/node/${id}`, 'x-ssl-client-verify': 'SUCCESS' },
    {
      'x-rollcall-node': id,
      'rollcall-node-id': id,
      'rollcall-code': 'OK',
      'x-user': 'admin',
      'x-role': 'admin',
    },
    { 'x-http-method-override': 'GET', 'x-original-method': 'GET' },
    { authorization: 'Bearer' },
    { authorization: 'Bearer null' },
    { authorization: 'Basic YWRtaW46YWRtaW4=' },
    {
      'proxy-authorization': `Bearer ${token}`,
      cookie: `token=${token}`,
      'x-authorization': `Bearer ${token}`,
    },
    { authorization: `Bearer ${token}` },
  ];
}

/** Counts the signatures that are really checked; they are checked all the same. */
function countVerifications(t: Test): () => number {
  let count = 0;
  const original = crypto.verify;
  const counting = (...parts: Parameters<typeof crypto.verify>): unknown => {
    count += 1;
    // eslint-disable-next-line @typescript-eslint/no-confusing-void-expression
    return original(...parts);
  };
  crypto.verify = counting as typeof crypto.verify;
  syncBuiltinESMExports();
  t.teardown(() => {
    crypto.verify = original;
    syncBuiltinESMExports();
  });
  return () => count;
}
