/** Records read from a disk after any damage: node records, history, runs, the state of a node. */
import { createPrivateKey } from 'node:crypto';
import fc from 'fast-check';
import { toPem } from '../../../src/base/pem.js';
import { toPkcs8Pem } from '../../../src/identity/private-key.js';
import { writeCertificate } from '../../../src/link/authority/x509.js';
import {
  decodeHistoryEntry,
  decodeKnownCertificate,
  decodeNodeRecord,
  encodeHistoryEntry,
  encodeKnownCertificate,
  encodeNodeRecord,
  type NodeRecord,
} from '../../../src/link/registry/node-record.js';
import {
  decodeLogEntry,
  decodeRunRecord,
  encodeLogEntry,
  encodeRunRecord,
  type RunRecord,
} from '../../../src/link/runs/run-record.js';
import { decodeState, encodeState } from '../../../src/node/state.js';
import { pendingRun } from '../../link/runs/fixtures/records.js';
import { changeBytes, pick, steps } from '../bytes.js';
import { demand, tried, type Target } from '../fuzzing.js';
import { changedTexts } from '../texts.js';
import { fixedKey } from './keys.js';

const key = fixedKey('P-256');
const dates = { notBefore: 1_924_988_400_000, notAfter: 1_924_992_000_000 };
const reference = {
  fingerprint: 'ab'.repeat(32),
  serial: '0a',
  ...dates,
  generation: 2n,
  authority: 'cd'.repeat(16),
};
const plainRecord: NodeRecord = {
  id: 16019329408659850374n,
  tenant: 'default',
  name: 'node-1',
  owner: '',
  labels: { site: 'é' },
  spki: key.publicKey.spki,
  fingerprint: key.publicKey.fingerprint,
  status: 'created',
  sinceAt: 1_924_988_400_000,
  reason: 'registered',
  registeredAt: 1_924_988_400_000,
  version: 1,
  transitions: 1,
  address: '',
  agentVersion: '',
  issuedGeneration: 0n,
  confirmedGeneration: 0n,
};
const onlineRecord: NodeRecord = {
  ...plainRecord,
  status: 'online',
  session: 7n,
  current: reference,
  next: reference,
};

// JSON by its tokens, and values of the wrong kind in the place of right ones.
const tokens = [
  ...['null', 'true', '0', '-1', '1e999', '1.5', '""', '{}', '[]', '"__proto__"', '"constructor"', '"x"'],
  ...['9007199254740993', '"18446744073709551616"', '"-1"', '"007"', '"99999999999999999999"', '"\\ud800"'],
  ...['{', '}', '[', ']', ',', ':', '"', '\\', '\\u0000'],
];

/** One value of a JSON object in the place of another, or an odd one. */
function changedValues(samples: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const odd: readonly unknown[] = [
    null,
    true,
    0,
    -1,
    1.5,
    2 ** 53,
    '',
    'x',
    '-1',
    '007',
    '1e3',
    [],
    {},
    [''],
    '\0',
  ];
  return fc.tuple(fc.noBias(fc.nat()), steps).map(([number, list]) => {
    const object = JSON.parse(pick(samples, number).toString()) as Record<string, unknown>;
    for (const { kind, at, value } of list) {
      const names = [...Object.keys(object), 'another', '__proto__'];
      const name = pick(names, at);
      const found = kind % 3 === 0 ? object[pick(names, value)] : pick([...odd, ...numbers], value);
      if (kind % 7 === 0) Reflect.deleteProperty(object, name);
      else
        Object.defineProperty(object, name, {
          value: found,
          enumerable: true,
          configurable: true,
          writable: true,
        });
    }
    return Buffer.from(JSON.stringify(object));
  });
}

const numbers = ['0', '18446744073709551615', '18446744073709551616', '99999999999999999999'];

function jsonLike(samples: readonly Buffer[]): fc.Arbitrary<Buffer> {
  return fc.oneof(
    changedValues(samples),
    changedTexts(
      samples.map(sample => sample.toString()),
      tokens,
    ),
    fc
      .tuple(fc.noBias(fc.nat()), steps)
      .map(([number, list]) => changeBytes(pick(samples, number), list, samples)),
  );
}

/** A reader of records: what it gives is written and read as the same; what it does not is INTERNAL. */
function recordsOf<T>(
  name: string,
  samples: readonly T[],
  encode: (value: T) => Buffer,
  decode: (bytes: Buffer) => T,
): Target {
  return {
    name,
    inputs: jsonLike(samples.map(encode)),
    reaches: ['read', 'INTERNAL'],
    check(input) {
      const result = tried(() => decode(input), 'INTERNAL');
      if ('refusal' in result) return 'INTERNAL';
      const written = encode(result.value);
      demand(encode(decode(written)).equals(written), 'what is written is read again');
      demand(Object.getPrototypeOf(result.value) === Object.prototype, 'a plain record');
      return 'read';
    },
  };
}

const entry = {
  at: 1,
  status: 'online',
  reason: 'connected',
  detail: '',
  address: '127.0.0.1:1',
  version: 2,
} as const;

const runs: readonly RunRecord[] = [
  pendingRun,
  {
    ...pendingRun,
    ...{ status: 'finished', outcome: 'completed', reason: 'completed', result: '{"accuracy":0.9}' },
    ...{ hostedBy: 'process', tokenHash: 'ef'.repeat(32) },
  },
];
const logEntry = { number: 1, at: 5, node: 7n, level: 'info', text: 'é' } as const;

// The state of a node.

const certificate = toPem(
  writeCertificate({
    subject: 'a node',
    issuer: 'a node',
    publicKey: key.publicKey.spki,
    issuerPublicKey: key.publicKey.spki,
    signWith: createPrivateKey(toPkcs8Pem(key)),
    serial: Buffer.of(1),
    notBefore: Date.UTC(2031, 0, 1),
    notAfter: Date.UTC(2031, 0, 2),
    keyUsage: ['digitalSignature'],
  }),
);
const state = Buffer.from(
  encodeState({
    nodeKey: key.publicKey.fingerprint,
    tenant: 'default',
    trustDomain: 'fleet.example.org',
    nodeId: 16019329408659850374n,
    generation: 3n,
    sessionKey: toPkcs8Pem(key),
    certificateChain: [certificate],
    renewalMarginMs: 1_200_000,
    serverRoots: [certificate],
  }),
);

const proven = new Set<string>();

const states: Target = {
  name: 'decodeState',
  inputs: jsonLike([state]),
  reaches: ['read', 'refused'],
  check(input) {
    const text = input.toString();
    const found = decodeState(text);
    if (!found) return 'refused';
    const said = JSON.parse(text) as Record<string, unknown>;
    demand(
      said['generation'] === `${found.generation}` && said['nodeId'] === `${found.nodeId}`,
      'numbers as written',
    );
    demand(found.generation < 1n << 64n, 'a generation that fits the wire');
    const written = encodeState(found);
    // Keys and certificates take long to read, and most changes are not in them.
    if (proven.has(written)) return 'read';
    proven.add(written);
    const again = decodeState(written);
    demand(again !== undefined && encodeState(again) === written, 'what is written is read again');
    return 'read';
  },
};

export const recordTargets = [
  recordsOf('decodeNodeRecord', [plainRecord, onlineRecord], encodeNodeRecord, decodeNodeRecord),
  recordsOf(
    'decodeKnownCertificate',
    [{ tenant: 'default', nodeId: 16019329408659850374n, ...dates, authority: 'cd'.repeat(16) }],
    encodeKnownCertificate,
    decodeKnownCertificate,
  ),
  recordsOf('decodeHistoryEntry', [entry], encodeHistoryEntry, decodeHistoryEntry),
  recordsOf('decodeRunRecord', runs, encodeRunRecord, decodeRunRecord),
  recordsOf('decodeLogEntry', [logEntry], encodeLogEntry, bytes => decodeLogEntry(1, bytes)),
  states,
];
