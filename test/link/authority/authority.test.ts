import { spawnSync } from 'node:child_process';
import { createHash, generateKeyPairSync, randomBytes, X509Certificate, type KeyObject } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { toPem } from '../../../src/base/pem.js';
import { readCertificateFields } from '../../../src/identity/certificate-fields.js';
import { verifyNodeCertificate } from '../../../src/identity/certificate.js';
import {
  openAuthority,
  type Authority,
  type AuthorityOptions,
} from '../../../src/link/authority/authority.js';
import { renewAfter } from '../../../src/link/enrollment/renewal.js';
import { writeCertificate, type CertificateTemplate } from '../../../src/link/authority/x509.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { createSerial } from '../../../src/link/authority/issuer.js';

const needsOpenssl =
  spawnSync('openssl', ['version']).status === 0 ? {} : { skip: 'openssl is not installed' };

const trustDomain = 'fleet.example';
const startAt = Date.UTC(2026, 2, 1, 8, 0, 0, 250);
const wholeStart = startAt - 250;
const oneHourMs = 3_600_000;
const dayMs = 24 * oneHourMs;
const nodeId = 16019329408659850374n;

function open(folder: string, changes: Partial<AuthorityOptions> = {}): Promise<Authority> {
  const clock = createManualClock(startAt);
  return openAuthority({ folder, trustDomain, clock, random: randomBytes, ...changes });
}

function sessionKey(namedCurve = 'P-256'): Buffer {
  return generateKeyPairSync('ec', { namedCurve }).publicKey.export({ type: 'spki', format: 'der' });
}

/** The issuer as X509Certificate, when there is exactly one. */
function onlyIssuer({ certificates }: Authority): X509Certificate {
  const [certificate, ...others] = certificates;
  if (!certificate || others.length > 0) throw new Error('wanted exactly one issuer');
  return certificate;
}

function pathsIn(folder: string): { key: string; certificate: string } {
  return { key: join(folder, 'authority.key'), certificate: join(folder, 'authority.crt') };
}

void t.test('the first start creates an authority that can sign node certificates only', async t => {
  const folder = join(t.testdir(), 'data', 'authority');
  const authority = await open(folder);
  const certificate = onlyIssuer(authority);
  t.match(certificate.subject, /^CN=Rollcall authority fleet\.example [0-9a-f]{8}$/);
  t.ok(certificate.ca);
  const { extensions } = readCertificateFields(certificate.raw);
  t.equal(extensions.get('2.5.29.19')?.value.toString('hex'), '30060101ff020100', 'no authority below it');
  t.equal(extensions.get('2.5.29.15')?.value.toString('hex'), '03020106', 'keyCertSign and cRLSign');
  t.ok(certificate.verify(certificate.publicKey), 'it signs itself');
  t.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  t.equal(Date.parse(certificate.validFrom), wholeStart - 300_000);
  t.equal(new Date(certificate.validTo).getUTCFullYear(), 2036);
  t.ok(authority.chain[0]?.equals(certificate.raw));
  t.equal(statSync(pathsIn(folder).key).mode & 0o777, 0o600);
  t.strictSame(readdirSync(folder).sort(), ['authority.crt', 'authority.key'], 'nothing else is left behind');
});

void t.test('the next start opens the same authority', async t => {
  const folder = t.testdir();
  const first = await open(folder);
  const key = readFileSync(pathsIn(folder).key, 'utf8');
  const second = await open(folder);
  t.strictSame(second.chain, first.chain);
  t.equal(readFileSync(pathsIn(folder).key, 'utf8'), key);
});

void t.test(
  'authorities of one trust domain in two deployments have different names, however long',
  async t => {
    const folder = t.testdir();
    const subjects = await Promise.all(
      ['a', 'b'].map(async each => {
        return onlyIssuer(await open(join(folder, each), { trustDomain: 'x'.repeat(255) })).subject;
      }),
    );
    t.not(subjects[0], subjects[1]);
    t.match(
      subjects[0],
      /^CN=Rollcall authority x{36} [0-9a-f]{8}$/,
      'cut so that a common name can hold it',
    );
  },
);

void t.test('a start that was interrupted between key and certificate is completed by the next', async t => {
  const folder = t.testdir();
  await open(folder);
  const { key, certificate } = pathsIn(folder);
  const keyText = readFileSync(key, 'utf8');
  rmSync(certificate);
  const again = await open(folder);
  t.equal(readFileSync(key, 'utf8'), keyText, 'the key is never made anew');
  t.ok(onlyIssuer(again).verify(onlyIssuer(again).publicKey));
  t.strictSame((await open(folder)).chain, again.chain);
});

void t.test('a missing authority key is an error and is not replaced', async t => {
  const folder = t.testdir();
  await open(folder);
  rmSync(pathsIn(folder).key);
  await t.rejects(open(folder), { code: 'CONFIG_INVALID', message: /is gone/, hint: /backup/ });
  t.strictSame(readdirSync(folder), ['authority.crt']);
});

void t.test('an authority key that others can read is refused', async t => {
  const folder = t.testdir();
  await open(folder);
  for (const mode of [0o640, 0o604, 0o660]) {
    chmodSync(pathsIn(folder).key, mode);
    await t.rejects(open(folder), { code: 'FILE_PERMISSIONS', hint: /chmod 600/ });
  }
});

void t.test('an authority that has expired or is not valid yet does not start', async t => {
  const folder = t.testdir();
  const authority = await open(folder);
  const expiresAt = Date.parse(onlyIssuer(authority).validTo);
  const openAt = (at: number) => open(folder, { clock: createManualClock(at) });
  await t.resolves(openAt(expiresAt - 1000));
  await t.rejects(openAt(expiresAt), { code: 'CONFIG_INVALID', message: /expired/ });
  await t.rejects(openAt(startAt - dayMs), { code: 'CONFIG_INVALID', hint: /clock says/ });
  renameSync(pathsIn(folder).certificate, `${pathsIn(folder).certificate}.old`);
  const renewed = await openAt(expiresAt);
  t.ok(
    onlyIssuer(renewed).publicKey.equals(onlyIssuer(authority).publicKey),
    'as the hint says, a new certificate is made for the same key',
  );
});

void t.test('a node certificate has the documented fields and no others', async t => {
  const clock = createManualClock(startAt);
  const authority = await open(t.testdir(), { clock });
  const publicKey = sessionKey('P-384');
  const issued = authority.issue({ nodeId, publicKey });
  const certificate = new X509Certificate(issued.certificate);
  t.equal(certificate.subject, 'CN=16019329408659850374');
  t.equal(certificate.subjectAltName, 'URI:spiffe://fleet.example/node/16019329408659850374');
  t.strictSame(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2'], 'clientAuth only');
  t.notOk(certificate.ca);
  t.ok(certificate.publicKey.export({ type: 'spki', format: 'der' }).equals(publicKey));
  t.equal(issued.serial, certificate.serialNumber.toLowerCase());
  t.equal(issued.fingerprint, createHash('sha256').update(issued.certificate).digest('hex'));
  t.equal(issued.notBefore, wholeStart - 5 * 60_000, 'backdated for clocks that are behind');
  t.equal(issued.notAfter, wholeStart + oneHourMs);
  t.equal(issued.notBefore, Date.parse(certificate.validFrom));
  t.equal(issued.notAfter, Date.parse(certificate.validTo));
  t.equal(
    renewAfter(issued.notAfter, startAt),
    Math.floor(((issued.notAfter - startAt) * 2) / 3),
    'two thirds of what is left',
  );
});

void t.test('the chain leads from the leaf to the issuer, and the link accepts it', async t => {
  const authority = await open(t.testdir());
  const issued = authority.issue({ nodeId, publicKey: sessionKey() });
  const [leaf, issuer] = issued.chain.map(der => new X509Certificate(der));
  t.equal(issued.chain.length, 2);
  t.ok(issuer && leaf?.checkIssued(issuer) && leaf.verify(issuer.publicKey));
  const verify = (at: number, by = authority) =>
    verifyNodeCertificate(issued.certificate, { authorities: by.certificates, trustDomain, now: at });
  const seen = verify(startAt);
  t.equal(seen.nodeId, nodeId);
  t.match(seen, { serial: issued.serial, fingerprint: issued.fingerprint, notAfter: issued.notAfter });
  t.throws(() => verify(issued.notAfter), { code: 'CERTIFICATE_REFUSED' });
  const other = await open(join(t.testdirName, 'other'));
  t.throws(
    () => verify(startAt, other),
    { code: 'CERTIFICATE_REFUSED' },
    'another authority vouches for nothing',
  );
});

void t.test('no two certificates share a serial, and all of its 128 bits are random', async t => {
  const authority = await open(t.testdir());
  const publicKey = sessionKey();
  const serials = Array.from({ length: 200 }, () =>
    BigInt(`0x${authority.issue({ nodeId, publicKey }).serial}`),
  );
  t.equal(new Set(serials).size, serials.length);
  const ever = serials.reduce((bits, serial) => bits | serial, 0n);
  const always = serials.reduce((bits, serial) => bits & serial);
  t.equal(ever, (1n << 128n) - 1n, 'each bit is set at times');
  t.equal(always, 0n, 'and no bit always');
});

void t.test('a node certificate ends no later than its authority', async t => {
  const clock = createManualClock(startAt);
  const authority = await open(t.testdir(), { clock, certificateLifetimeMs: 30 * dayMs });
  const expiresAt = Date.parse(onlyIssuer(authority).validTo);
  clock.step(expiresAt - startAt - dayMs);
  const late = authority.issue({ nodeId, publicKey: sessionKey() });
  t.equal(late.notAfter, expiresAt);
  clock.step(dayMs);
  t.throws(() => authority.issue({ nodeId, publicKey: sessionKey() }), {
    code: 'INTERNAL',
    message: /expired/,
  });
});

interface Given {
  readonly keyFile: string;
  readonly certificateFile: string;
}

interface GivenOptions {
  readonly curve?: string;
  readonly template?: Partial<CertificateTemplate>;
  readonly isLeaf?: boolean;
  /** Replaces the key in its file. */
  readonly key?: KeyObject;
}

/** An authority of the operator's own, with whatever is to be wrong with it. */
function writeGiven(
  folder: string,
  { curve = 'P-256', template = {}, isLeaf, key }: GivenOptions = {},
): Given {
  const pair = generateKeyPairSync('ec', { namedCurve: curve });
  const publicKey = pair.publicKey.export({ type: 'spki', format: 'der' });
  const der = writeCertificate({
    ...{
      subject: 'Clinic CA',
      issuer: 'Clinic CA',
      publicKey,
      issuerPublicKey: publicKey,
      signWith: pair.privateKey,
    },
    ...{ serial: createSerial(randomBytes), notBefore: startAt - dayMs, notAfter: startAt + 365 * dayMs },
    ...{ ...(isLeaf ? {} : { ca: {} }), keyUsage: ['keyCertSign'] },
    ...template,
  });
  const files = { keyFile: join(folder, 'given.key'), certificateFile: join(folder, 'given.crt') };
  writeFileSync(files.certificateFile, toPem(der));
  const text = (key ?? pair.privateKey).export({ type: 'pkcs8', format: 'pem' });
  writeFileSync(files.keyFile, text, { mode: 0o600 });
  return files;
}

void t.test('an authority of the operator is used as it is, and nothing is written', async t => {
  for (const curve of ['P-256', 'P-384']) {
    const folder = t.testdir();
    const given = writeGiven(folder, { curve });
    const authority = await open(join(folder, 'data'), given);
    const issued = authority.issue({ nodeId, publicKey: sessionKey() });
    const { certificates } = authority;
    t.equal(
      verifyNodeCertificate(issued.certificate, { authorities: certificates, trustDomain, now: startAt })
        .nodeId,
      nodeId,
    );
    t.strictSame(readdirSync(folder).sort(), ['given.crt', 'given.key'], curve);
  }
});

void t.test(
  'an authority made by openssl works, with its long name and its own key identifier',
  needsOpenssl,
  async t => {
    const folder = t.testdir();
    const files = { keyFile: join(folder, 'ca.key'), certificateFile: join(folder, 'ca.crt') };
    const { status, stderr } = spawnSync(
      'openssl',
      [
        ...[
          'req',
          '-x509',
          '-newkey',
          'ec',
          '-pkeyopt',
          'ec_paramgen_curve:P-384',
          '-nodes',
          '-keyout',
          files.keyFile,
        ],
        ...[
          '-subj',
          '/C=DE/O=Beispiel Klinik/OU=IT/CN=Ünit CA',
          '-utf8',
          '-days',
          '3',
          '-out',
          files.certificateFile,
        ],
        ...['-addext', 'subjectKeyIdentifier=0102030405', '-addext', 'authorityKeyIdentifier=none'],
        ...['-addext', 'keyUsage=critical,keyCertSign'],
      ],
      { encoding: 'utf8' },
    );
    t.equal(status, 0, stderr);
    chmodSync(files.keyFile, 0o600);
    const authority = await open(folder, { ...files, clock: createManualClock(Date.now() + 1000) });
    const leaf = join(folder, 'leaf.pem');
    writeFileSync(leaf, toPem(authority.issue({ nodeId, publicKey: sessionKey() }).certificate));
    const strict = [
      'verify',
      '-x509_strict',
      '-purpose',
      'sslclient',
      '-CAfile',
      files.certificateFile,
      leaf,
    ];
    const verified = spawnSync('openssl', strict, { encoding: 'utf8' });
    t.equal(verified.status, 0, verified.stderr);
    writeFileSync(files.certificateFile, toPem(onlyIssuer(authority).raw).repeat(2));
    await t.rejects(open(folder, files), { code: 'CONFIG_INVALID', message: /holds 2 certificates/ });
  },
);

void t.test('files that are not an authority are refused, each with a hint', async t => {
  const folder = t.testdir();
  const refused = async (given: Partial<Given>, message: RegExp, code = 'CONFIG_INVALID') =>
    t.rejects(open(folder, given), { code, message }, message.source);
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

  await refused({ keyFile: writeGiven(folder).keyFile }, /given together/);
  await refused({ certificateFile: writeGiven(folder).certificateFile }, /given together/);
  await refused(writeGiven(folder, { key: other }), /belongs to another key/);
  await refused(writeGiven(folder, { key: rsa }), /is rsa; it must be EC P-256 or P-384/);
  await refused(
    writeGiven(folder, { template: { keyUsage: ['digitalSignature'] } }),
    /may not sign certificates/,
  );
  await refused(writeGiven(folder, { template: { notAfter: startAt } }), /expired/);
  await refused(writeGiven(folder, { template: { notBefore: startAt + 5000 } }), /valid only from/);
  await refused(
    writeGiven(folder, { template: { extendedKeyUsage: ['serverAuth'] } }),
    /may not sign for clients/,
  );
  await refused(writeGiven(folder, { isLeaf: true }), /may not sign certificates/);

  const given = writeGiven(folder);
  const rewrite = (path: string, text: string) => writeFileSync(path, text);
  const [key, certificate] = [
    readFileSync(given.keyFile, 'utf8'),
    readFileSync(given.certificateFile, 'utf8'),
  ];
  rewrite(given.keyFile, certificate);
  await refused(given, /holds no private key/);
  rewrite(
    given.keyFile,
    other.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }).toString(),
  );
  await refused(given, /is encrypted/);
  rewrite(given.keyFile, key);
  rewrite(given.certificateFile, key);
  await refused(given, /a certificate is wanted/);
  rewrite(given.certificateFile, certificate.slice(0, 150));
  await refused(given, /damaged/);
  rewrite(given.certificateFile, toPem(Buffer.from('3003020101', 'hex')));
  await refused(given, /cannot be read/);
  chmodSync(given.keyFile, 0o644);
  await refused(given, /read by others/, 'FILE_PERMISSIONS');
  await refused({ ...given, keyFile: join(folder, 'nowhere') }, /no such file/, 'FILE_UNREADABLE');
  t.strictSame(readdirSync(folder).sort(), ['given.crt', 'given.key'], 'no authority was made instead');
});

void t.test('an authority whose certificates the link would refuse does not start', async t => {
  const folder = t.testdir();
  await t.rejects(open(folder, { trustDomain: 'Not A Trust Domain' }), {
    code: 'CONFIG_INVALID',
    message: /refused by the link itself/,
  });
});
