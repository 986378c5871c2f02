/** Certificates: those of nodes, of servers, of authorities, in DER and in PEM; and the reader of DER below them. */
import { createHash, createPrivateKey, sign, X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { isRollcallError } from '../../../src/base/errors.js';
import { fromPem, toPem } from '../../../src/base/pem.js';
import { readCertificateFields } from '../../../src/identity/certificate-fields.js';
import {
  endPointBinding,
  maxNodeCertificateBytes,
  verifyNodeCertificate,
} from '../../../src/identity/certificate.js';
import type { Curve } from '../../../src/identity/curve.js';
import {
  booleanOf,
  bytesOfBits,
  childrenOf,
  oidOf,
  readDer,
  timeOf,
  unsignedOf,
  type DerElement,
} from '../../../src/identity/der.js';
import { toPkcs8Pem } from '../../../src/identity/private-key.js';
import { formatSpiffeId } from '../../../src/identity/spiffe.js';
import { readIssuer } from '../../../src/link/authority/issuer.js';
import {
  authorityCertificate,
  nodeCertificate,
  start,
  trustDomain,
} from '../../harness/honest-certificates.js';
import { changeBytes, changedBytes, pick, steps, type Step } from '../bytes.js';
import { changeTree, leaf, nodesOf, readTree, writeTree, type DerNode } from '../der-tree.js';
import { demand, tried, type Target } from '../fuzzing.js';
import { changedTexts } from '../texts.js';
import { fixedKey } from './keys.js';

const now = start + 1000;

/** The same in every run, so that what is kept stays signed. */
function authorityOn(curve: Curve) {
  const key = fixedKey(curve, 'rollcall fuzz authority');
  const signer = {
    name: `Fuzz Authority ${curve}`,
    spki: key.publicKey.spki,
    key: createPrivateKey(toPkcs8Pem(key)),
  };
  const der = authorityCertificate(signer);
  const hash = curve === 'P-256' ? 'sha256' : 'sha384';
  return { ...signer, der, hash, certificate: new X509Certificate(der) };
}

type Authority = ReturnType<typeof authorityOn>;
const authorities: readonly Authority[] = [authorityOn('P-256'), authorityOn('P-384')];
const trusted = authorities.map(({ certificate }) => certificate);

interface Sample {
  readonly authority: Authority;
  readonly tree: DerNode;
  readonly der: Buffer;
}

/** Mostly on P-256, which is much faster. */
const signers = Array.from({ length: 8 }, (_, index) => pick(authorities, index === 0 ? 1 : 0));
const onP256 = fixedKey('P-256').publicKey.spki;
const samples: readonly Sample[] = signers.flatMap(authority =>
  [
    nodeCertificate(authority, onP256),
    nodeCertificate(authority, fixedKey('P-384').publicKey.spki),
    nodeCertificate(authority, onP256, { notAfter: Date.UTC(2050, 0, 1) }),
    nodeCertificate(authority, onP256, {
      extendedKeyUsage: ['serverAuth'],
      alternativeNames: [{ dns: 'localhost' }, { ip: '::1' }],
    }),
    authority.der,
  ].map(der => ({ authority, der, tree: readTree(der) })),
);
const ders = samples.map(({ der }) => der);
const pool = samples.slice(0, 10).flatMap(({ tree }) => nodesOf(tree));

/** A certificate whose inside was changed before the authority signed it. */
function signChanged({ tree, authority }: Sample, list: readonly Step[]): Buffer {
  const [body, algorithm] = Buffer.isBuffer(tree.content) ? [] : tree.content;
  if (!body || !algorithm) throw new Error('no certificate');
  const changed = writeTree(changeTree(body, list, pool));
  const signature = sign(authority.hash, changed, authority.key);
  const bits = leaf(0x03, Buffer.concat([Buffer.of(0), signature]));
  return wrap(changed, writeTree(algorithm), writeTree(bits));
}

function wrap(...parts: readonly Buffer[]): Buffer {
  return writeTree(leaf(0x30, Buffer.concat(parts)));
}

const changedCertificates = fc.tuple(fc.nat(3), fc.noBias(fc.nat()), steps).map(([mode, number, list]) => {
  const sample = pick(samples, number);
  return mode === 0 ? changeBytes(sample.der, list, ders) : writeTree(changeTree(sample.tree, list, pool));
});

const signedCertificates = fc
  .tuple(fc.noBias(fc.nat()), steps)
  .map(([number, list]) => signChanged(pick(samples, number), list));

function findX509(der: Buffer): X509Certificate | undefined {
  try {
    return new X509Certificate(der);
  } catch {
    return undefined;
  }
}

const nodeCertificates: Target = {
  name: 'verifyNodeCertificate',
  inputs: fc.oneof(
    { weight: 1, arbitrary: changedCertificates },
    { weight: 2, arbitrary: signedCertificates },
  ),
  reaches: ['verified', 'CERTIFICATE_REFUSED'],
  check(input) {
    const result = tried(
      () => verifyNodeCertificate(input, { authorities: trusted, trustDomain, now }),
      'CERTIFICATE_REFUSED',
    );
    if ('refusal' in result) return 'CERTIFICATE_REFUSED';
    const { nodeId, notBefore, notAfter, fingerprint, spki } = result.value;
    const openssl = findX509(input);
    // The authority signs some invalid parts in this test, such as an odd subject; TLS refuses them.
    if (!openssl) return 'verified, unreadable to OpenSSL';
    demand(
      input.length <= maxNodeCertificateBytes && openssl.raw.equals(input),
      'nothing but the certificate',
    );
    demand(
      authorities.some(authority => openssl.verify(authority.certificate.publicKey)),
      'OpenSSL finds an authority behind it too',
    );
    demand(!openssl.ca, 'no authority');
    demand(
      openssl.subjectAltName === `URI:${formatSpiffeId(trustDomain, nodeId)}`,
      'one name, as OpenSSL reads it',
    );
    demand(openssl.keyUsage.join() === '1.3.6.1.5.5.7.3.2', 'clientAuth alone');
    demand(notBefore <= now && now < notAfter, 'it is valid now');
    demand(
      Date.parse(openssl.validFrom) === notBefore && Date.parse(openssl.validTo) === notAfter,
      'the same dates',
    );
    demand(
      createHash('sha256').update(input).digest('hex') === fingerprint,
      'the fingerprint is of these bytes',
    );
    demand(openssl.raw.includes(spki), 'the key is in it');
    return 'verified';
  },
};

/** The reader throws an Error of its own; one of the language's would be something it did not think of. */
function unlessMalformed<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError || !(error instanceof Error)) throw error;
    return undefined;
  }
}

const certificateFields: Target = {
  name: 'readCertificateFields',
  inputs: changedCertificates,
  reaches: ['read', 'refused'],
  check(input) {
    const fields = unlessMalformed(() => readCertificateFields(input));
    if (!fields) return 'refused';
    const { signedPart, signatureAlgorithm, signature, serial, extensions } = fields;
    const bits = writeTree(leaf(0x03, Buffer.concat([Buffer.of(0), signature])));
    demand(wrap(signedPart, signatureAlgorithm, bits).equals(input), 'the parts are the whole');
    demand(/^(?:[0-9a-f]{2}){1,20}$/.test(serial) && !/^(?:00)*$/.test(serial), 'a serial');
    for (const part of [fields.issuer, fields.subject, fields.spki])
      demand(signedPart.includes(part), 'signed');
    for (const { value } of extensions.values()) demand(signedPart.includes(value), 'signed extensions');
    demand(Number.isSafeInteger(fields.notBefore) && Number.isSafeInteger(fields.notAfter), 'dates');
    return 'read';
  },
};

const hex = (text: string) => Buffer.from(text, 'hex');

/** Enough of a certificate for its binding: only the signature algorithm counts. */
const algorithms = [
  '06082a8648ce3d040302',
  '06082a8648ce3d040304',
  '06092a864886f70d01010b0500',
  '06092a864886f70d01010d0500',
  '06092a864886f70d0101050500',
  '06032b6570',
  // RSASSA-PSS: SHA-256 twice; SHA-256 with a mask by SHA-1; the defaults, which are SHA-1 twice.
  '06092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120',
  '06092a864886f70d01010a3011a00f300d06096086480165030402010500',
  '06092a864886f70d01010a3000',
].map(hex);
const bound = algorithms.map(algorithm =>
  wrap(
    writeTree(leaf(0x30, hex('0500'))),
    writeTree(leaf(0x30, algorithm)),
    writeTree(leaf(0x03, hex('00'))),
  ),
);
const boundPool = [...pool, ...bound.flatMap(der => nodesOf(readTree(der)))];

const bindings: Target = {
  name: 'endPointBinding',
  inputs: fc.tuple(fc.nat(3), fc.noBias(fc.nat()), steps).map(([mode, number, list]) => {
    const der = pick(mode === 0 ? ders : bound, number);
    return mode === 1 ? changeBytes(der, list, bound) : writeTree(changeTree(readTree(der), list, boundPool));
  }),
  reaches: ['bound', 'BINDING_REFUSED'],
  check(input) {
    const result = tried(() => endPointBinding(input), 'BINDING_REFUSED');
    if ('refusal' in result) return 'BINDING_REFUSED';
    const hashes = ['sha224', 'sha256', 'sha384', 'sha512'].map(hash =>
      createHash(hash).update(input).digest(),
    );
    demand(
      hashes.some(digest => digest.equals(result.value)),
      'a hash of the certificate, never a weak one',
    );
    return 'bound';
  },
};

const issuers: Target = {
  name: 'readIssuer',
  inputs: changedCertificates,
  reaches: ['read', 'REQUEST_INVALID'],
  check(input) {
    const result = tried(() => readIssuer(input), 'REQUEST_INVALID');
    if ('refusal' in result) return 'REQUEST_INVALID';
    const { name, keyIdentifier } = result.value;
    demand(input.includes(name) && (!keyIdentifier || input.includes(keyIdentifier)), 'copied byte for byte');
    return 'read';
  },
};

const pems = [ders, [ders[0] ?? hex('')], []].map(list => list.map(der => toPem(der)).join('# between\n'));
const words = [
  '-----BEGIN CERTIFICATE-----',
  '-----END CERTIFICATE-----',
  '-----BEGIN EC PARAMETERS-----',
  '=',
  '-',
];

const certificateFiles: Target = {
  name: 'fromPem',
  inputs: changedTexts(pems, words),
  reaches: ['read', 'CONFIG_INVALID'],
  check(input) {
    const result = tried(() => fromPem(input.toString(), 'authority certificate'), 'CONFIG_INVALID');
    if ('refusal' in result) return 'CONFIG_INVALID';
    const again = fromPem(result.value.map(der => toPem(der)).join(''), 'same');
    demand(again.length === result.value.length, 'as many are written as were read');
    demand(
      again.every((der, index) => der.length > 0 && der.equals(result.value[index] ?? hex(''))),
      'the same',
    );
    return 'read';
  },
};

const readers = [unsignedOf, booleanOf, bytesOfBits, oidOf, timeOf] as readonly ((
  element: DerElement,
) => unknown)[];

function unlessRefused<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!isRollcallError(error, 'REQUEST_INVALID')) throw error;
    return undefined;
  }
}

/** Reads all there is and gives how many elements that was. */
function walk(element: DerElement, depth: number): number {
  // Thousands of the same find nothing new.
  if (element.content.length < 300) for (const read of readers) unlessRefused(() => read(element));
  const children = depth < 20 ? unlessRefused(() => childrenOf(element)) : undefined;
  if (!children) return 1;
  demand(
    Buffer.concat(children.map(({ whole }) => whole)).equals(element.content),
    'children are the content',
  );
  return children.reduce((sum, child, index) => sum + (index < 50 ? walk(child, depth + 1) : 1), 1);
}

const der: Target = {
  name: 'readDer',
  inputs: fc.oneof(
    changedCertificates,
    changedBytes(pool.map(writeTree).filter(({ length }) => length < 200)),
  ),
  reaches: ['read', 'refused'],
  check(input) {
    const element = unlessRefused(() => readDer(input));
    if (!element) return 'refused';
    demand(writeTree(leaf(element.tag, element.content)).equals(input), 'one way to write it');
    demand(walk(element, 0) <= input.length, 'no more elements than bytes');
    return 'read';
  },
};

export const certificateTargets = [
  nodeCertificates,
  certificateFields,
  bindings,
  issuers,
  certificateFiles,
  der,
];
