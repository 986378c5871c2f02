import { spawnSync } from 'node:child_process';
import { createHash, generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { fromPem, toPem } from '../../../src/base/pem.js';
import { systemRandom } from '../../../src/base/random.js';
import { readCertificateFields } from '../../../src/identity/certificate-fields.js';
import {
  keyIdentifierOf,
  createSerial,
  formatSerial,
  positiveInteger,
} from '../../../src/link/authority/issuer.js';
import { writeCertificate, type CertificateTemplate, ipOctets } from '../../../src/link/authority/x509.js';

interface Pair {
  readonly key: KeyObject;
  readonly spki: Buffer;
}

function generatePair(namedCurve = 'P-256'): Pair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
  return { key: privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) };
}

const now = Date.UTC(2026, 5, 1, 12, 0, 0);
const root = generatePair();
const leaf = generatePair();

function write(changes: Partial<CertificateTemplate> = {}): Buffer {
  return writeCertificate({
    subject: 'leaf',
    issuer: 'root',
    publicKey: leaf.spki,
    issuerPublicKey: root.spki,
    signWith: root.key,
    serial: createSerial(systemRandom),
    notBefore: now,
    notAfter: now + 3_600_000,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['clientAuth'],
    ...changes,
  });
}

function writeRoot({ key, spki }: Pair, changes: Partial<CertificateTemplate> = {}): Buffer {
  const self = { subject: 'root', publicKey: spki, issuerPublicKey: spki, signWith: key };
  return write({
    ...self,
    ca: { pathLength: 0 },
    keyUsage: ['keyCertSign', 'cRLSign'],
    extendedKeyUsage: [],
    ...changes,
  });
}

function openssl(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('openssl', args, { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

const needsOpenssl =
  spawnSync('openssl', ['version']).status === 0 ? {} : { skip: 'openssl is not installed' };

void t.test('Node.js reads the certificate that was written', t => {
  const alternativeNames = [
    { uri: 'spiffe://fleet.example/node/7' },
    { dns: '*.example.org' },
    { ip: '192.0.2.1' },
    { ip: '2001:db8::1' },
  ];
  const certificate = new X509Certificate(write({ alternativeNames, serial: Buffer.of(0x00, 0xab, 0xcd) }));
  t.equal(certificate.subject, 'CN=leaf');
  t.equal(certificate.issuer, 'CN=root');
  t.equal(certificate.serialNumber, 'ABCD');
  t.equal(
    certificate.subjectAltName,
    'URI:spiffe://fleet.example/node/7, DNS:*.example.org, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1',
  );
  t.equal(certificate.ca, false);
  t.strictSame(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  t.equal(Date.parse(certificate.validFrom), now);
  t.ok(certificate.publicKey.export({ type: 'spki', format: 'der' }).equals(leaf.spki));
  const issuer = new X509Certificate(writeRoot(root));
  t.equal(issuer.ca, true);
  t.ok(certificate.checkIssued(issuer), 'names, key identifiers and key usage lead to the issuer');
  t.ok(certificate.verify(issuer.publicKey));
  t.notOk(certificate.verify(certificate.publicKey), 'and to nobody else');
  t.end();
});

void t.test('basic constraints and key usage are critical, other extensions are not', t => {
  const { extensions } = readCertificateFields(write({ alternativeNames: [{ dns: 'a.example' }] }));
  const critical = [...extensions].filter(([, each]) => each.critical).map(([name]) => name);
  t.strictSame(critical, ['2.5.29.19', '2.5.29.15']);
  t.equal(extensions.size, 6);
  t.equal(extensions.get('2.5.29.19')?.value.toString('hex'), '3000', 'a leaf has an empty sequence');
  t.equal(extensions.get('2.5.29.15')?.value.toString('hex'), '03020780', 'digitalSignature, 7 bits unused');
  const identifier = createHash('sha1').update(leaf.spki.subarray(-65)).digest('hex');
  t.equal(extensions.get('2.5.29.14')?.value.toString('hex'), `0414${identifier}`);
  const ofRoot = readCertificateFields(writeRoot(root)).extensions;
  t.equal(ofRoot.get('2.5.29.19')?.value.toString('hex'), '30060101ff020100');
  t.equal(ofRoot.get('2.5.29.15')?.value.toString('hex'), '03020106');
  t.notOk(ofRoot.has('2.5.29.35'), 'a root names no issuer key');
  t.notOk(ofRoot.has('2.5.29.37'), 'an empty list of uses is left out');
  t.end();
});

void t.test('openssl verifies chains of both curves by its strict rules', needsOpenssl, t => {
  const folder = t.testdir();
  for (const curve of ['P-256', 'P-384']) {
    const issuer = generatePair(curve);
    const [rootFile, leafFile] = [join(folder, `${curve}-root.pem`), join(folder, `${curve}-leaf.pem`)];
    writeFileSync(rootFile, toPem(writeRoot(issuer)));
    const signed = { issuerPublicKey: issuer.spki, signWith: issuer.key, alternativeNames: [{ ip: '::1' }] };
    writeFileSync(leafFile, toPem(write(signed)));
    const at = String(now / 1000 + 60);
    const strict = ['verify', '-x509_strict', '-attime', at, '-purpose', 'sslclient', '-CAfile', rootFile];
    t.match(openssl(...strict, leafFile), { status: 0, output: /OK/ }, curve);
    t.match(openssl('verify', '-x509_strict', '-attime', at, '-CAfile', rootFile, rootFile), { status: 0 });
    t.match(openssl('x509', '-in', leafFile, '-noout', '-text').output, `ecdsa-with-SHA${curve.slice(2)}`);
  }
  t.end();
});

void t.test('certificate times change their form with the year 2050 and lose their fractions', t => {
  const boundary = Date.UTC(2050, 0, 1);
  const form = (at: number) => readCertificateFields(write({ notAfter: at })).notAfter;
  t.match(write({ notAfter: boundary - 1 }).toString('latin1'), '\x17\x0d491231235959Z');
  t.match(write({ notAfter: boundary }).toString('latin1'), '\x18\x0f20500101000000Z');
  t.equal(form(boundary - 1), boundary - 1000);
  t.equal(form(boundary), boundary);
  fc.assert(
    fc.property(fc.integer({ min: Date.UTC(1950, 0), max: Date.UTC(9999, 11, 31) }), at => {
      const certificate = write({ notBefore: at, notAfter: at });
      const whole = Math.floor(at / 1000) * 1000;
      const fields = readCertificateFields(certificate);
      return fields.notBefore === whole && Date.parse(new X509Certificate(certificate).validTo) === whole;
    }),
    { numRuns: 60 },
  );
  t.throws(() => write({ notAfter: Date.UTC(10_000, 0) }), RangeError);
  t.throws(() => write({ notAfter: Number.NaN }), RangeError);
  t.end();
});

void t.test('serials are positive, minimal and keep their 128 bits', t => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 16 }), magnitude => {
      const serial = positiveInteger(magnitude);
      const [first = 0, second = 0] = serial;
      const value = BigInt(`0x${Buffer.from(magnitude).toString('hex')}`) || 1n;
      return (
        first < 0x80 &&
        (serial.length === 1 || first !== 0 || second >= 0x80) &&
        BigInt(`0x${serial.toString('hex')}`) === value
      );
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), bytes => {
      const serial = createSerial(() => Buffer.from(bytes));
      const shown = new X509Certificate(write({ serial })).serialNumber.toLowerCase();
      return shown === formatSerial(serial);
    }),
    { numRuns: 60, examples: [[new Uint8Array(16)], [new Uint8Array(16).fill(0xff)]] },
  );
  for (const bad of ['', '00', '80', 'ff01', '0001', `01${'00'.repeat(20)}`]) {
    t.throws(() => write({ serial: Buffer.from(bad, 'hex') }), RangeError, `serial "${bad}"`);
  }
  t.end();
});

void t.test('a public key with nested ASN.1 is copied byte for byte', t => {
  // 0x04 is OCTET STRING to a parser that guesses, and 0x3f the length of what follows: one P-256 key in 256.
  let pair = generatePair();
  while (pair.spki[27] !== 0x3f) pair = generatePair();
  const certificate = write({ publicKey: pair.spki });
  t.ok(readCertificateFields(certificate).spki.equals(pair.spki));
  t.equal(keyIdentifierOf(pair.spki).length, 20);
  t.end();
});

void t.test('IP addresses are encoded as octets in network order', t => {
  const hex = (text: string) => ipOctets(text).toString('hex');
  t.equal(hex('127.0.0.1'), '7f000001');
  t.equal(hex('::'), '00'.repeat(16));
  t.equal(hex('::1'), `${'00'.repeat(15)}01`);
  t.equal(hex('2001:db8::8:800:200c:417a'), '20010db80000000000080800200c417a');
  t.equal(hex('1:2:3:4:5:6:7:8'), '00010002000300040005000600070008');
  t.equal(hex('fe80::'), `fe80${'00'.repeat(14)}`);
  t.equal(hex('::ffff:192.0.2.1'), '00000000000000000000ffffc0000201');
  for (const bad of ['', '1.2.3', 'fe80::1%eth0', '::1::', 'localhost'])
    t.throws(() => ipOctets(bad), RangeError);
  const words = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(words, groups => {
      const full = groups.map(group => group.toString(16)).join(':');
      const short = new URL(`http://[${full}]`).hostname.slice(1, -1);
      const octets = Buffer.from(groups.flatMap(group => [group >> 8, group & 0xff]));
      return ipOctets(full).equals(octets) && ipOctets(short).equals(octets);
    }),
  );
  t.end();
});

void t.test('an invalid certificate template is refused', t => {
  t.throws(() => write({ subject: '' }), RangeError);
  t.throws(() => write({ subject: 'x'.repeat(65) }), RangeError);
  t.throws(() => write({ alternativeNames: [{ dns: 'bücher.example' }] }), RangeError);
  t.throws(() => write({ alternativeNames: [{ uri: '' }] }), RangeError);
  t.throws(() => write({ ca: { pathLength: -1 } }), RangeError);
  t.throws(() => write({ signWith: generatePair('P-521').key }), RangeError);
  t.throws(() => write({ signWith: generateKeyPairSync('ed25519').privateKey }), RangeError);
  t.throws(() => write({ publicKey: Buffer.from('garbage') }), { code: 'REQUEST_INVALID' });
  t.throws(() => write({ publicKey: Buffer.concat([leaf.spki, Buffer.of(0)]) }), { code: 'REQUEST_INVALID' });
  t.end();
});

void t.test('names in a certificate may be of any script', t => {
  const certificate = new X509Certificate(write({ subject: 'Ärzte 病院 🏥'.padEnd(64, '.').slice(0, 64) }));
  t.match(certificate.subject, /^CN=/);
  t.doesNotThrow(() => write({ subject: '🏥'.repeat(64) }), 'characters count, not code units');
  t.end();
});

void t.test('PEM is encoded and decoded, whatever text surrounds it', t => {
  const two = [write(), writeRoot(root)];
  const text = two
    .map(der => toPem(der))
    .join('some text\n-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n');
  t.strictSame(fromPem(text, 'file'), two);
  t.strictSame(fromPem(text.replaceAll('\n', '\r\n'), 'file'), two);
  t.ok(text.split('\n').every(line => line.length <= 64));
  t.match(toPem(Buffer.of(1), 'PUBLIC KEY'), '-----BEGIN PUBLIC KEY-----\nAQ==\n-----END PUBLIC KEY-----\n');
  t.end();
});

void t.test('PEM without a complete certificate is refused with the found contents', t => {
  const pem = toPem(write());
  const key = leaf.key.export({ type: 'pkcs8', format: 'pem' }).toString();
  const refused = (text: string, message: RegExp) =>
    t.throws(() => fromPem(text, 'root ca.crt'), { code: 'CONFIG_INVALID', message });
  refused('', /the root ca\.crt holds no PEM block/);
  refused(key, /"PRIVATE KEY", a certificate is wanted/);
  refused(pem.slice(0, 200), /damaged/);
  refused(pem.slice(0, 200) + pem, /damaged/);
  refused(pem.replace('\nMII', '\nM!I'), /damaged/);
  refused('-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n', /damaged/);
  try {
    fromPem(key, 'x');
  } catch (error) {
    t.notMatch(inspect(error), key.slice(40, 60), 'what the file holds is not repeated');
  }
  t.end();
});
