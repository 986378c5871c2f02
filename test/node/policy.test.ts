// Decisions of the agent without any I/O: pauses, renewal times, server roots, log lines.
import { generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { errorCodes, RollcallError } from '../../src/base/errors.js';
import type { Log } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { createSerial } from '../../src/link/authority/issuer.js';
import { writeCertificate } from '../../src/link/authority/x509.js';
import { createConditionLog } from '../../src/node/agent-log.js';
import {
  baseMs,
  calmBaseMs,
  capMs,
  fraction,
  maxAskedPauseMs,
  pauseAfter,
  type Setback,
} from '../../src/node/backoff.js';
import { limits } from '../../src/protocol/limits.js';
import { acceptServerRoots } from '../../src/node/server-roots.js';
import { renewalDelay } from '../../src/node/steps.js';

/** Chance that falls on the given part of its range. */
function chance(part: number) {
  return (size: number) => {
    const bytes = Buffer.alloc(size);
    bytes.writeUInt32BE(Math.min(Math.floor(part * 2 ** 32), 2 ** 32 - 1));
    return bytes;
  };
}

const min = chance(0);
const max = chance(1);

function pauses(setback: Partial<Setback>): readonly [number, number] {
  const whole = { code: 'LINK_UNREACHABLE', failures: 1, refusals: 0, ...setback } as const;
  return [pauseAfter(whole, min), Math.round(pauseAfter(whole, max))];
}

void t.test('random fractions are uniform from 0 to below 1', t => {
  t.equal(fraction(min), 0);
  t.ok(fraction(max) < 1);
  t.equal(fraction(chance(0.25)), 0.25);
  t.end();
});

void t.test('an unreachable link is retried with capped exponential pauses and full jitter', t => {
  for (const code of [
    'LINK_UNREACHABLE',
    'LINK_UNVERIFIED',
    'PROOF_REFUSED',
    'INTERNAL',
    'LINK_BUSY',
  ] as const) {
    t.same(pauses({ code }), [0, baseMs], code);
    t.same(pauses({ code, failures: 2 }), [0, 2 * baseMs]);
    t.same(pauses({ code, failures: 7 }), [0, capMs]);
    t.same(pauses({ code, failures: 1e9 }), [0, capMs]);
  }
  t.end();
});

void t.test('states that wait for an operator are retried with longer pauses, shorter at first', t => {
  for (const code of ['NODE_NOT_REGISTERED', 'NODE_PENDING', 'NODE_QUARANTINED'] as const) {
    t.same(pauses({ code }), [calmBaseMs / 2, calmBaseMs], code);
    t.same(pauses({ code, failures: 50 }), [capMs / 2, capMs]);
  }
  t.end();
});

void t.test('a replaced agent stays away for half a minute or longer', t => {
  t.same(pauses({ code: 'SESSION_REPLACED' }), [30_000, 45_000]);
  t.end();
});

void t.test('a draining link sets the pause before the next attempt, within bounds', t => {
  t.same(pauses({ code: 'LINK_DRAINING', askedPauseMs: 2_000 }), [2_000, 3_000]);
  t.same(pauses({ code: 'LINK_DRAINING', askedPauseMs: 0 }), [baseMs, baseMs * 1.5]);
  t.same(pauses({ code: 'LINK_DRAINING', askedPauseMs: 2 ** 32 - 1 }), [
    maxAskedPauseMs,
    maxAskedPauseMs * 1.5,
  ]);
  t.same(pauses({ code: 'LINK_DRAINING' }), [0, baseMs]);
  t.end();
});

void t.test('an agent comes back no sooner than the error of the link asks for', t => {
  t.same(pauses({ code: 'RATE_LIMITED', askedPauseMs: 60_000 }), [60_000, 90_000]);
  t.same(pauses({ code: 'RATE_LIMITED', askedPauseMs: 100 }), [100, baseMs]);
  t.same(pauses({ code: 'LINK_BUSY', failures: 50, askedPauseMs: 1_000 }), [1_000, capMs]);
  t.same(pauses({ code: 'LINK_BUSY', askedPauseMs: 2 ** 32 - 1 }), [maxAskedPauseMs, maxAskedPauseMs * 1.5]);
  t.end();
});

void t.test('a refused certificate is replaced at once, but not repeatedly', t => {
  for (const code of ['CERTIFICATE_REFUSED', 'SESSION_EXPIRED'] as const) {
    t.same(pauses({ code, failures: 9, refusals: 1 }), [0, 0], code);
    t.same(pauses({ code, failures: 2, refusals: 2 }), [0, 2 * baseMs]);
    t.same(pauses({ code, failures: 9, refusals: 2 }), [0, capMs]);
  }
  t.end();
});

void t.test('every pause between attempts is a valid timer duration', t => {
  fc.assert(
    fc.property(
      fc.constantFrom(...errorCodes),
      fc.nat(),
      fc.nat(),
      fc.option(fc.nat(2 ** 32 - 1), { nil: undefined }),
      (code, failures, refusals, askedPauseMs) => {
        const pauseMs = pauseAfter({ code, failures, refusals, askedPauseMs }, systemRandom);
        return pauseMs >= 0 && pauseMs <= maxAskedPauseMs * 1.5;
      },
    ),
  );
  t.end();
});

void t.test('renewal is due by the clock of the link alone, up to a tenth earlier', t => {
  const fresh = { linkClockMs: 1_000_000n, expiresAtMs: 1_000_000n + 3_600_000n };
  t.equal(renewalDelay(fresh, 1_200_000, 0), 2_400_000);
  t.equal(renewalDelay(fresh, 1_200_000, 0.999), 2_400_000 * (1 - 0.0999));
  // Half an hour later, after a restart.
  t.equal(renewalDelay({ ...fresh, linkClockMs: 2_800_000n }, 1_200_000, 0), 600_000);
  t.equal(renewalDelay({ ...fresh, linkClockMs: 4_500_000n }, 1_200_000, 0), 500, 'overdue: at once, nearly');
  t.equal(renewalDelay({ ...fresh, linkClockMs: 9_000_000n }, 0, 0.5), 500, 'a link whose clock jumped');
  t.ok(renewalDelay({ linkClockMs: 0n, expiresAtMs: 2n ** 62n }, 0, 0) < 2 ** 31, 'what a timer can wait');
  t.end();
});

interface Issued {
  readonly der: Buffer;
  readonly pem: string;
  readonly key: KeyObject;
  readonly spki: Buffer;
  readonly name: string;
}

function issue(name: string, { by, ca = true }: { by?: Issued; ca?: boolean } = {}): Issued {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const der = writeCertificate({
    subject: name,
    issuer: by?.name ?? name,
    publicKey: spki,
    issuerPublicKey: by?.spki ?? spki,
    signWith: by?.key ?? privateKey,
    serial: createSerial(systemRandom),
    notBefore: Date.now() - 1000,
    notAfter: Date.now() + 3_600_000,
    keyUsage: ca ? ['keyCertSign'] : ['digitalSignature'],
    ...(ca && { ca: {} }),
  });
  return { der, pem: new X509Certificate(der).toString(), key: privateKey, spki, name };
}

const given = issue('given root');
const stranger = issue('stranger');
const next = issue('next root', { by: given });

void t.test('a pushed root is accepted when it is known or signed by a known root', t => {
  t.same(acceptServerRoots([given.pem], [], [given.der, next.der, stranger.der]), {
    accepted: [next.pem],
    refused: 1,
  });
  t.same(acceptServerRoots([given.pem], [next.pem], [next.der]), { accepted: [next.pem], refused: 0 });
  const afterNext = issue('root after next', { by: next });
  t.same(acceptServerRoots([given.pem], [], [afterNext.der]), { accepted: [], refused: 1 });
  t.same(acceptServerRoots([given.pem], [next.pem], [afterNext.der]), {
    accepted: [afterNext.pem],
    refused: 0,
  });
  t.end();
});

void t.test('a bundle replaces the held roots, and configured roots are not stored again', t => {
  t.same(acceptServerRoots([given.pem], [next.pem], []), { accepted: [], refused: 0 });
  t.same(acceptServerRoots([given.pem], [next.pem], [given.der]), { accepted: [], refused: 0 });
  t.same(acceptServerRoots([given.pem], [], [next.der, next.der]), { accepted: [next.pem], refused: 0 });
  t.end();
});

void t.test('a pushed root with only the name of a known root is refused', t => {
  const namesake = issue('given root');
  t.same(acceptServerRoots([given.pem], [], [namesake.der]).accepted, [], 'same name, another key');
  const borrowed = issue('borrowed', { by: { ...stranger, name: 'given root' } });
  t.same(
    acceptServerRoots([given.pem], [], [borrowed.der]).accepted,
    [],
    'claims the issuer, signed by another',
  );
  const disguised = issue('disguised', { by: { ...stranger, name: 'given root', spki: given.spki } });
  t.same(acceptServerRoots([given.pem], [], [disguised.der]).accepted, [], 'and its key identifier');
  t.end();
});

void t.test('only a CA certificate can sign a pushed root, and only a CA is accepted', t => {
  const leaf = issue('server', { by: given, ca: false });
  t.same(acceptServerRoots([given.pem], [], [leaf.der]).accepted, [], 'a server certificate of a known root');
  const below = issue('below a leaf', { by: leaf });
  t.same(
    acceptServerRoots([given.pem, leaf.pem], [], [below.der]).accepted,
    [],
    'signed by one that is no CA',
  );
  t.end();
});

void t.test('invalid certificates in a bundle are refused and the others accepted', t => {
  const trailing = Buffer.concat([next.der, Buffer.from([0])]);
  const broken = Buffer.from(next.der);
  broken.writeUInt8(broken.readUInt8(broken.length - 1) ^ 1, broken.length - 1);
  const pushed = [Buffer.alloc(0), Buffer.from('-----BEGIN'), Buffer.alloc(20_000, 0x30), trailing, broken];
  t.same(acceptServerRoots([given.pem], [], [...pushed, Buffer.from(next.pem), next.der]), {
    accepted: [next.pem],
    refused: pushed.length + 1,
  });
  const many = Array.from({ length: limits.serverRoots + 3 }, () => given.der);
  t.same(acceptServerRoots([given.pem], [], many), { accepted: [], refused: 3 });
  t.end();
});

function listen(): { log: Log; lines: string[]; fields: Record<string, unknown>[] } {
  const lines: string[] = [];
  const fields: Record<string, unknown>[] = [];
  const write = (level: string) => (given: Record<string, unknown>, message: string) => {
    lines.push(`${level} ${message}`);
    fields.push(given);
  };
  const log: Log = {
    trace: write('trace'),
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: () => log,
  };
  return { log, lines, fields };
}

void t.test('a lasting condition is logged once, again when it changes, and again after a success', t => {
  const { log, lines, fields } = listen();
  const conditions = createConditionLog(log);
  const refused = new RollcallError('LINK_UNREACHABLE', 'nothing listens there');
  const unverified = new RollcallError('LINK_UNVERIFIED', 'expired', { hint: 'the clock says 12:00' });
  conditions.report(refused, 100.4);
  conditions.report(refused, 200);
  conditions.report(unverified, 300);
  conditions.report(new RollcallError('LINK_UNVERIFIED', 'expired', { hint: 'the clock says 12:01' }), 300);
  conditions.report(refused, 300);
  conditions.clear();
  conditions.report(refused, 1);
  t.same(lines, [
    'warn nothing listens there',
    'debug nothing listens there',
    'warn expired',
    'debug expired',
    'debug nothing listens there',
    'warn nothing listens there',
  ]);
  t.match(fields[0], { code: 'LINK_UNREACHABLE', retryInMs: 100 });
  t.match(fields[2], { hint: 'the clock says 12:00' });
  conditions.report(new RollcallError('INTERNAL', 'oops', { cause: new Error('why') }), 1);
  t.match(lines.at(-1), 'error oops');
  t.end();
});

void t.test('a large clock difference is logged once, with both clocks', t => {
  const { log, lines } = listen();
  const conditions = createConditionLog(log);
  const now = Date.parse('2025-06-01T12:00:00Z');
  conditions.compareClocks(now, now + 59_000);
  t.same(lines, []);
  conditions.compareClocks(now, Date.parse('2035-06-01T12:00:00Z'));
  conditions.compareClocks(now, Date.parse('2035-06-01T12:00:01Z'));
  t.equal(lines.length, 1);
  t.match(lines[0], /2025-06-01T12:00:00.000Z.*2035-06-01T12:00:00.000Z/);
  conditions.compareClocks(now, now);
  conditions.compareClocks(now, Number(2n ** 63n - 1n));
  t.match(lines[1], /an impossible time/);
  t.end();
});
