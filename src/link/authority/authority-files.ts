/**
 * Reads the authority's key and certificate: files the operator names, or the link's own folder, where they
 * are made at the first start. The key is written first and made only once. A start that was cut short leaves a key
 * without a certificate, which the next start makes from it; a key is never made where a certificate waits for one.
 */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { toPem } from '../../base/pem.js';
import type { Random } from '../../base/random.js';
import {
  makeSecretFolder,
  readSecretFile,
  readSmallFile,
  unlessMissing,
  writeWholeFile,
  type Warn,
} from '../../base/secret-file.js';
import { createSigningPair, parseSigningKey, type SigningPair } from './signing-pair.js';
import { writeCertificate } from './x509.js';
import { createSerial } from './issuer.js';

const tenYearsMs = 3652 * 86_400_000;
/** Certificates start to count a little before they are made, for clocks that are behind. */
export const backdatingMs = 5 * 60_000;

export interface OwnFiles {
  /** Made when it is not there. */
  readonly folder: string;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly random: Random;
}

/** Opens `authority.key` and `authority.crt` in the link's folder, making what is not there yet. */
export async function openOwnFiles(own: OwnFiles): Promise<SigningPair> {
  const keyPath = join(own.folder, 'authority.key');
  const certificatePath = join(own.folder, 'authority.crt');
  await makeSecretFolder(own.folder);
  const keyText = await unlessMissing(readSecretFile(keyPath, 'authority key'));
  const certificateText = await unlessMissing(readSmallFile(certificatePath, 'authority certificate'));
  if (certificateText && !keyText) throw keyMissing(keyPath, certificatePath);
  const key = parseSigningKey({ path: keyPath, text: keyText?.toString() ?? (await createKey(keyPath)) });
  const text = certificateText?.toString() ?? (await createCertificate(certificatePath, key, own));
  return createSigningPair(key, { path: certificatePath, text }, own.clock.now());
}

/** Opens the files of an authority that the operator brings. */
export async function openGivenFiles(
  certificatePath: string,
  keyPath: string,
  clock: Clock,
  warn?: Warn,
): Promise<SigningPair> {
  const keyText = (await readSecretFile(keyPath, 'authority key', undefined, warn)).toString();
  const text = (await readSmallFile(certificatePath, 'authority certificate')).toString();
  const key = parseSigningKey({ path: keyPath, text: keyText });
  return createSigningPair(key, { path: certificatePath, text }, clock.now());
}

function keyMissing(keyPath: string, certificatePath: string): RollcallError {
  return new RollcallError(
    'CONFIG_INVALID',
    `the authority key ${keyPath} is gone, its certificate is still there`,
    {
      hint: `bring the key back from a backup, or move ${certificatePath} away for a new authority; nodes then enroll again`,
    },
  );
}

async function createKey(path: string): Promise<string> {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  await writeWholeFile(path, privateKey);
  return privateKey;
}

async function createCertificate(
  path: string,
  key: KeyObject,
  { trustDomain, clock, random }: OwnFiles,
): Promise<string> {
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const subject = subjectOf(trustDomain, random);
  const text = toPem(
    writeCertificate({
      subject,
      issuer: subject,
      publicKey,
      issuerPublicKey: publicKey,
      signWith: key,
      serial: createSerial(random),
      notBefore: clock.now() - backdatingMs,
      notAfter: clock.now() + tenYearsMs,
      ca: { pathLength: 0 },
      keyUsage: ['keyCertSign', 'cRLSign'],
    }),
  );
  await writeWholeFile(path, text, { mode: 0o644 });
  return text;
}

/**
 * The random end keeps the authorities of two deployments apart that chose one trust domain: with one name for two
 * keys, what fails would be a signature deep in TLS and not the look-up of an issuer. A common name ends at 64.
 */
function subjectOf(trustDomain: string, random: Random): string {
  return `Rollcall authority ${trustDomain.slice(0, 36)} ${random(4).toString('hex')}`;
}
