import { createHash, generateKeyPairSync, sign, X509Certificate, type KeyObject } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { isRollcallError, RollcallError } from '../../src/base/errors.js';
import {
  certificateFingerprint,
  endPointBinding,
  maxNodeCertificateBytes,
  verifyNodeCertificate,
} from '../../src/identity/certificate.js';
import {
  booleanOf,
  bytesOfBits,
  childrenOf,
  oidOf,
  readDer,
  timeOf,
  unsignedOf,
  type DerElement,
} from '../../src/identity/der.js';
import { isNodeId, parseNodeId, randomNodeId } from '../../src/identity/node-id.js';
import { formatSpiffeId, parseSpiffeId, parseTrustDomain } from '../../src/identity/spiffe.js';
import { commonName, der, ecdsaSha256, extension, hex, sequence, utcTime } from '../harness/der-writer.js';
import {
  authorityCertificate,
  hour,
  nodeCertificate,
  nodeId,
  start,
  trustDomain,
} from '../harness/honest-certificates.js';

const text = (value: string) => Buffer.from(value, 'latin1');
const ecdsaSha384 = hex('300a06082a8648ce3d040303');
const ids = { keyUsage: 15, names: 17, constraints: 19, purposes: 37 };
const clientAuth = hex('06082b06010505070302');
const serverAuth = hex('06082b06010505070301');
const uri = (value: string) => der(0x86, text(value));

interface Pair {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}
const pairOn = (namedCurve: string): Pair => generateKeyPairSync('ec', { namedCurve });
const spkiOf = ({ publicKey }: Pair) => publicKey.export({ type: 'spki', format: 'der' });

const nodePair = pairOn('P-256');
const authorityPair = pairOn('P-256');
const stranger = pairOn('P-256');

interface Parts {
  readonly version?: Uint8Array;
  readonly serial?: Uint8Array;
  readonly innerAlgorithm?: Uint8Array;
  readonly outerAlgorithm?: Uint8Array;
  readonly issuer?: Uint8Array;
  readonly notBefore?: Uint8Array;
  readonly notAfter?: Uint8Array;
  readonly spki?: Uint8Array;
  readonly constraints?: Uint8Array | undefined;
  readonly keyUsage?: Uint8Array | undefined;
  readonly purposes?: Uint8Array | undefined;
  readonly names?: Uint8Array | undefined;
  readonly more?: readonly Uint8Array[];
  readonly afterExtensions?: Uint8Array;
  readonly signWith?: KeyObject;
  readonly hash?: string;
  readonly signature?: (signature: Buffer) => Uint8Array;
}

/** A node's certificate, right in everything the parts do not change. */
function certificate(parts: Parts = {}): Buffer {
  const has = (key: keyof Parts, standard: Uint8Array): readonly Uint8Array[] => {
    const value = key in parts ? (parts[key] as Uint8Array | undefined) : standard;
    return value ? [value] : [];
  };
  const inner = parts.innerAlgorithm ?? ecdsaSha256;
  const body = sequence(
    ...has('version', hex('a003020102')),
    parts.serial ?? hex('0202133f'),
    inner,
    parts.issuer ?? commonName('Test Authority'),
    sequence(parts.notBefore ?? utcTime(start), parts.notAfter ?? utcTime(start + hour)),
    commonName('node'),
    parts.spki ?? spkiOf(nodePair),
    der(
      0xa3,
      sequence(
        ...has('constraints', extension(ids.constraints, sequence(), true)),
        ...has('keyUsage', extension(ids.keyUsage, hex('03020780'), true)),
        ...has('purposes', extension(ids.purposes, sequence(clientAuth))),
        ...has('names', extension(ids.names, sequence(uri(formatSpiffeId(trustDomain, nodeId))))),
        ...(parts.more ?? []),
      ),
    ),
    ...(parts.afterExtensions ? [parts.afterExtensions] : []),
  );
  const signature = sign(parts.hash ?? 'sha256', body, parts.signWith ?? authorityPair.privateKey);
  const bits = Buffer.concat([Buffer.of(0), parts.signature?.(signature) ?? signature]);
  return sequence(body, parts.outerAlgorithm ?? inner, der(0x03, bits));
}

function authorityFor(pair: Pair, common = 'Test Authority'): X509Certificate {
  const signer = { name: common, spki: spkiOf(pair), key: pair.privateKey };
  return new X509Certificate(authorityCertificate(signer));
}

const authority = authorityFor(authorityPair);

function check(certificateDer: Uint8Array, now = start + 1000, authorities = [authority]) {
  return verifyNodeCertificate(certificateDer, { authorities, trustDomain, now });
}

function refusalOf(call: () => unknown): RollcallError {
  try {
    call();
  } catch (error) {
    if (isRollcallError(error, 'CERTIFICATE_REFUSED')) return error;
    throw error;
  }
  throw new Error('accepted');
}

void t.test('a node certificate written by the authority is accepted and read', t => {
  for (const curve of ['P-256', 'P-384']) {
    const [issuer, node] = [pairOn(curve), pairOn(curve)];
    const signer = { name: 'Test Authority', spki: spkiOf(issuer), key: issuer.privateKey };
    const written = nodeCertificate(signer, spkiOf(node));
    const found = check(written, start, [authority, authorityFor(issuer)]);
    t.equal(found.nodeId, nodeId);
    t.equal(found.serial, 'a1b2c3');
    t.equal(found.notBefore, start);
    t.equal(found.notAfter, start + hour);
    t.same(found.spki, spkiOf(node));
    t.equal(found.fingerprint, createHash('sha256').update(written).digest('hex'));
    t.equal(found.fingerprint, new X509Certificate(written).fingerprint256.replaceAll(':', '').toLowerCase());
  }
  t.end();
});

void t.test('the certificates that this file makes are accepted', t => {
  const real = new X509Certificate(certificate());
  t.ok(real.verify(authority.publicKey));
  t.equal(real.subjectAltName, `URI:${formatSpiffeId(trustDomain, nodeId)}`);
  t.equal(check(certificate()).nodeId, nodeId);
  t.ok(check(certificate({ constraints: undefined })), 'basicConstraints may be absent');
  t.ok(
    check(certificate({ more: [extension(99, sequence())] })),
    'an unknown extension that is not critical',
  );
  t.ok(check(certificate({ innerAlgorithm: ecdsaSha384, hash: 'sha384' })), 'P-256 with SHA-384');
  t.end();
});

void t.test('a certificate is valid from its first second until the second it ends', t => {
  const ours = certificate();
  t.ok(check(ours, start));
  t.ok(check(ours, start + hour - 1));
  const cases = [
    [start - 1, /not valid yet/],
    [start - 1000, /not valid yet/],
    [start + hour, /has expired/],
    [start + hour + 1000, /has expired/],
    [start + 1000 * hour, /has expired/],
  ] as const;
  for (const [now, message] of cases) t.match(refusalOf(() => check(ours, now)).message, message);
  t.end();
});

void t.test('a certificate that deviates from the profile of node certificates is refused', t => {
  const id = formatSpiffeId(trustDomain, nodeId);
  const names = (...all: readonly Uint8Array[]) => ({ names: extension(ids.names, sequence(...all)) });
  const purposes = (...all: readonly Uint8Array[]) => ({
    purposes: extension(ids.purposes, sequence(...all)),
  });
  const usage = (bits: string) => ({ keyUsage: extension(ids.keyUsage, hex(bits), true) });
  const compressed = Buffer.concat([spkiOf(nodePair).subarray(0, 26), Buffer.of(2), Buffer.alloc(32, 3)]);
  const cases: readonly (readonly [string, Parts, RegExp])[] = [
    ['another issuer name', { issuer: commonName('Another Authority') }, /no authority has its issuer name/],
    ['our name, signed by a stranger', { signWith: stranger.privateKey }, /not by an authority/],
    [
      'a signature of other bytes',
      { signature: () => sign('sha256', text('x'), authorityPair.privateKey) },
      /not by an authority/,
    ],
    [
      'a signature in BER',
      { signature: bytes => Buffer.concat([Buffer.of(0x30, 0x81), bytes.subarray(1)]) },
      /not by an authority/,
    ],
    [
      'a signature with a tail',
      { signature: bytes => Buffer.concat([bytes, Buffer.of(0)]) },
      /not by an authority/,
    ],
    ['two signature algorithms', { outerAlgorithm: ecdsaSha384 }, /two signature algorithms/],
    ['SHA-1', { innerAlgorithm: hex('300906072a8648ce3d0401'), hash: 'sha1' }, /signature algorithm/],
    [
      'parameters after the algorithm',
      { innerAlgorithm: hex('300c06082a8648ce3d0403020500') },
      /signature algorithm/,
    ],
    ['version 1', { version: undefined as unknown as Uint8Array }, /expected tag/],
    ['version 2', { version: hex('a003020101') }, /not version 3/],
    ['a serial of zero', { serial: hex('020100') }, /serial/],
    ['a negative serial', { serial: hex('020181') }, /negative/],
    ['a serial of 21 bytes', { serial: der(2, Buffer.alloc(21, 1)) }, /too long/],
    ['a date with a zone', { notAfter: der(0x17, text('310101000000+0100')) }, /time/],
    ['30 February', { notBefore: der(0x17, text('310230000000Z')) }, /time/],
    ['a GeneralizedTime before 2050', { notAfter: der(0x18, text('20310101010000Z')) }, /time/],
    ['a field after the extensions', { afterExtensions: hex('0500') }, /fields after the last/],
    [
      'an authority',
      { constraints: extension(ids.constraints, hex('30030101ff'), true) },
      /basic constraints are not/,
    ],
    [
      'cA FALSE written out',
      { constraints: extension(ids.constraints, hex('3003010100'), true) },
      /basic constraints are not/,
    ],
    ['no key usage', { keyUsage: undefined }, /key usage/],
    ['keyCertSign too', usage('03020284'), /key usage/],
    ['keyAgreement instead', usage('03020308'), /key usage/],
    ['no purpose', { purposes: undefined }, /missing/],
    ['serverAuth', purposes(serverAuth), /extended key usage/],
    ['serverAuth too', purposes(clientAuth, serverAuth), /extended key usage/],
    ['clientAuth twice', purposes(clientAuth, clientAuth), /extended key usage/],
    ['any purpose', purposes(hex('0604551d2500')), /extended key usage/],
    ['no name', { names: undefined }, /missing/],
    ['an empty list of names', names(), /exactly one URI/],
    ['two URIs', names(uri(id), uri(formatSpiffeId(trustDomain, 7n))), /exactly one URI/],
    ['a DNS name too', names(uri(id), der(0x82, text('localhost'))), /exactly one URI/],
    ['the URI as a DNS name', names(der(0x82, text(id))), /exactly one URI/],
    ['another trust domain', names(uri(formatSpiffeId('other.example.org', nodeId))), /trust domain/],
    ['a workload of the trust domain', names(uri(`spiffe://${trustDomain}/ns/a`)), /trust domain/],
    ['a zero byte in the URI', names(uri(`${id}\0.example.org`)), /trust domain/],
    ['an unknown critical extension', { more: [extension(99, sequence(), true)] }, /unknown critical/],
    ['one extension twice', { more: [extension(ids.purposes, sequence(clientAuth))] }, /twice/],
    ['an RSA key', { spki: generateRsaSpki() }, /an RSA key of 2048 bits/],
    ['a P-521 key', { spki: spkiOf(pairOn('P-521')) }, /P-521/],
    ['a compressed key', { spki: compressed }, /./],
    ['too many bytes', { more: [extension(99, der(4, Buffer.alloc(maxNodeCertificateBytes)))] }, /bytes/],
  ];
  for (const [what, parts, cause] of cases) {
    const error = refusalOf(() => check(certificate(parts)));
    t.match(String(error.cause), cause, what);
    t.notMatch(error.message, /signature|extension|spiffe/, 'the message is general');
  }
  t.end();
});

function generateRsaSpki(): Buffer {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return publicKey.export({ type: 'spki', format: 'der' });
}

void t.test('a certificate is accepted only from the authorities given', t => {
  const ours = certificate();
  t.match(refusalOf(() => check(ours, start, [])).message, /not issued by this link/);
  t.match(String(refusalOf(() => check(ours, start, [authorityFor(stranger)])).cause), /not by an authority/);
  t.ok(check(ours, start, [authorityFor(stranger), authority]), 'one name, two keys: rotation');
  t.throws(() => check(authority.raw), { code: 'CERTIFICATE_REFUSED' }, 'an authority is no node');
  t.end();
});

void t.test('extra, missing or altered bytes of a certificate are refused', t => {
  const ours = certificate();
  t.throws(() => check(Buffer.concat([ours, Buffer.of(0)])), { code: 'CERTIFICATE_REFUSED' });
  for (let length = 0; length < ours.length; length += 9) {
    t.throws(() => check(ours.subarray(0, length)), { code: 'CERTIFICATE_REFUSED' });
  }
  fc.assert(
    fc.property(fc.nat(ours.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const changed = Buffer.from(ours);
      changed[at] = (changed[at] ?? 0) ^ flip;
      return refusalOf(() => check(changed)).code === 'CERTIFICATE_REFUSED';
    }),
    { numRuns: 500 },
  );
  t.end();
});

void t.test('the end-point binding hashes by the signature algorithm, and never by MD5 or SHA-1', t => {
  const parameters = (hash: string, mask: string) =>
    sequence(
      der(0xa0, sequence(hex(hash))),
      der(0xa1, sequence(hex('06092a864886f70d010108'), sequence(hex(mask)))),
    );
  const sha256 = '0609608648016503040201';
  const sha384 = '0609608648016503040202';
  const pss = hex('06092a864886f70d01010a');
  const cases = [
    ['ecdsa-with-SHA256', ecdsaSha256, 'sha256'],
    ['ecdsa-with-SHA384', ecdsaSha384, 'sha384'],
    ['ecdsa-with-SHA512', hex('300a06082a8648ce3d040304'), 'sha512'],
    ['sha256WithRSAEncryption', hex('300d06092a864886f70d01010b0500'), 'sha256'],
    ['sha512WithRSAEncryption', hex('300d06092a864886f70d01010d0500'), 'sha512'],
    ['sha1WithRSAEncryption', hex('300d06092a864886f70d0101050500'), 'sha256'],
    ['md5WithRSAEncryption', hex('300d06092a864886f70d0101040500'), 'sha256'],
    ['RSASSA-PSS with SHA-384', sequence(pss, parameters(sha384, sha384)), 'sha384'],
    ['RSASSA-PSS with its default, SHA-1', sequence(pss, sequence()), 'sha256'],
  ] as const;
  for (const [what, algorithm, hash] of cases) {
    const server = certificate({ outerAlgorithm: algorithm });
    t.same(endPointBinding(server), createHash(hash).update(server).digest(), what);
  }
  const without = [hex('300506032b6570'), sequence(pss, parameters(sha256, sha384))];
  for (const outerAlgorithm of without) {
    t.throws(() => endPointBinding(certificate({ outerAlgorithm })), { code: 'BINDING_REFUSED' });
  }
  t.throws(() => endPointBinding(Buffer.from('no certificate')), { code: 'BINDING_REFUSED' });
  t.end();
});

void t.test('the DER reader refuses everything but DER', t => {
  const bad = [
    '',
    '30',
    '3080',
    '30800000',
    '308101ff',
    '30820001ff',
    '3081',
    '3002ff',
    '300100',
    '1f8101ff',
    '300000',
  ];
  for (const bytes of bad) {
    t.throws(() => childrenOf(readDer(hex(bytes))), { code: 'REQUEST_INVALID' }, bytes);
  }
  const numbers = ['0200', '02020001', '020180', '0202ff7f', '0101ff'];
  for (const bytes of numbers)
    t.throws(() => unsignedOf(readDer(hex(bytes))), { code: 'REQUEST_INVALID' }, bytes);
  t.same(unsignedOf(readDer(hex('020200ff'))), Buffer.of(0xff));
  t.same(unsignedOf(readDer(hex('020100'))), Buffer.of());
  for (const bytes of ['010101', '0100', '0102ffff']) t.throws(() => booleanOf(readDer(hex(bytes))));
  for (const bytes of ['0600', '0602802a', '060181']) t.throws(() => oidOf(readDer(hex(bytes))));
  t.equal(oidOf(readDer(hex('06082a8648ce3d030107'))), '1.2.840.10045.3.1.7');
  t.equal(oidOf(readDer(hex('0603883703'))), '2.999.3');
  t.equal(oidOf(readDer(hex('06010a'))), '0.10');
  t.equal(timeOf(readDer(der(0x17, text('490101000000Z')))), Date.UTC(2049, 0, 1));
  t.equal(timeOf(readDer(der(0x17, text('500101000000Z')))), Date.UTC(1950, 0, 1));
  t.equal(timeOf(readDer(der(0x18, text('99991231235959Z')))), Date.UTC(9999, 11, 31, 23, 59, 59));
  t.end();
});

void t.test('the DER reader throws only RollcallErrors, and reads every byte', t => {
  const seeds = [certificate(), authority.raw, spkiOf(nodePair)];
  const mutated = fc
    .tuple(fc.constantFrom(...seeds), fc.nat(600), fc.uint8Array({ maxLength: 4 }), fc.nat(4))
    .map(([seed, at, insert, drop]) =>
      Buffer.concat([seed.subarray(0, at), insert, seed.subarray(at + drop)]),
    );
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 200 })), bytes => {
      walk(() => readDer(bytes));
      return true;
    }),
    { numRuns: 1500 },
  );
  t.end();
});

/** Reads everything there is to read, as everything it could be. */
function walk(read: () => DerElement): void {
  const element = attempt(read);
  if (!element) return;
  for (const reader of [unsignedOf, booleanOf, oidOf, timeOf, bytesOfBits]) attempt(() => reader(element));
  const children = attempt(() => childrenOf(element));
  if (!children) return;
  if (!Buffer.concat(children.map(({ whole }) => whole)).equals(element.content))
    throw new Error('bytes lost');
  for (const child of children) walk(() => child);
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof RollcallError) return undefined;
    throw error;
  }
}

void t.test('a node id has one spelling', t => {
  for (const id of ['1', '16019329408659850374', '18446744073709551615'])
    t.equal(String(parseNodeId(id)), id);
  const bad = [
    '0',
    '',
    '01',
    '-1',
    '+1',
    ' 1',
    '1 ',
    '1\n',
    '0x1',
    '1e3',
    '1n',
    '١',
    '18446744073709551616',
    '9'.repeat(99),
  ];
  for (const id of bad) t.throws(() => parseNodeId(id), { code: 'REQUEST_INVALID' }, JSON.stringify(id));
  t.notOk([0n, -1n, 1n << 64n, 1, '1', undefined].some(isNodeId));
  t.ok(isNodeId(1n));
  const draws = [Buffer.alloc(8), Buffer.alloc(8, 0xff)];
  t.equal(
    randomNodeId(() => draws.shift() ?? Buffer.alloc(8)),
    (1n << 64n) - 1n,
    'never zero',
  );
  t.end();
});

void t.test('a SPIFFE id is parsed in exactly one spelling', t => {
  const id = formatSpiffeId(trustDomain, nodeId);
  t.equal(id, 'spiffe://fleet.example.org/node/16019329408659850374');
  t.same(parseSpiffeId(id), { trustDomain, nodeId });
  const bad = [
    '',
    id.toUpperCase(),
    `${id}/`,
    `${id}\n`,
    `${id}?a`,
    `${id}#a`,
    ` ${id}`,
    id.replace('spiffe', 'https'),
    id.replace('spiffe://', 'spiffe:/'),
    id.replace('fleet', 'Fleet'),
    id.replace('fleet', 'user@fleet'),
    id.replace('.org', '.org:443'),
    id.replace('fleet.example.org', ''),
    id.replace('/node/', '/node//'),
    id.replace('/node/', '/Node/'),
    id.replace('/node/', '/./node/'),
    id.replace(String(nodeId), '0'),
    id.replace(String(nodeId), `0${nodeId}`),
    id.replace(String(nodeId), '%31'),
    'spiffe://fleet.example.org/node/',
  ];
  for (const text of bad) t.equal(parseSpiffeId(text), undefined, JSON.stringify(text));
  t.end();
});

void t.test('a trust domain follows the rules of SPIFFE', t => {
  for (const domain of ['a', 'fleet.example.org', 'a_b-c.9', 'x'.repeat(255)]) {
    t.equal(parseTrustDomain(domain), domain);
  }
  for (const domain of ['', 'A', 'a b', 'a/b', 'a:1', 'é', 'a\n', 'x'.repeat(256)]) {
    t.throws(() => parseTrustDomain(domain), { code: 'CONFIG_INVALID' }, JSON.stringify(domain));
  }
  t.end();
});

void t.test('a certificate fingerprint is the SHA-256 of its DER', t => {
  t.equal(certificateFingerprint(text('abc')), createHash('sha256').update('abc').digest('hex'));
  t.end();
});
