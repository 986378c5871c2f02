/**
 * Decrypts PEM private keys by node:crypto. How much work a passphrase is stands in the file, and may be days of it: it
 * is read and bounded before OpenSSL begins.
 */
import { createPrivateKey, type PrivateKeyInput } from 'node:crypto';
import { systemErrorCode } from '../base/errors.js';
import { oidOf, readDer, sequenceOf, unsignedOf, type DerElement } from './der.js';
import { missingPassphrase, refuseKey, wrongPassphrase, type KeyWish } from './key-errors.js';
import type { PemBlock } from './pem.js';

/** OpenSSL's own default is 2,048, careful people's are a million or two. Each costs less than a microsecond. */
const maxRounds = 10_000_000;

/** The unencrypted PKCS#8 of a block that is encrypted by PKCS#8 or in the old way of OpenSSL (RFC 1421). */
export function decryptPem(block: PemBlock, passphrase: string | undefined, wish: KeyWish): Buffer {
  if (passphrase === undefined) throw missingPassphrase(wish);
  if (block.label !== 'ENCRYPTED PRIVATE KEY') {
    return decrypt({ key: block.text, format: 'pem', passphrase }, wish);
  }
  refuseEndless(block.body, wish);
  // The very bytes that were looked at: as PEM, headers could have it decrypted twice.
  return decrypt({ key: block.body, format: 'der', type: 'pkcs8', passphrase }, wish);
}

function decrypt(input: PrivateKeyInput, wish: KeyWish): Buffer {
  try {
    return createPrivateKey(input).export({ type: 'pkcs8', format: 'der' });
  } catch (error) {
    if (/EVP_UNSUPPORTED|UNSUPPORTED_(CIPHER|ENCRYPTION)/.test(systemErrorCode(error) ?? '')) {
      throw refuseEncryption(wish, 'in a way that is not read here');
    }
    throw wrongPassphrase(wish);
  }
}

function refuseEncryption(wish: KeyWish, how: string) {
  return refuseKey(
    wish,
    `a private key encrypted ${how}`,
    `encrypt it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in ${wish.path} -out ${wish.path}.new`,
  );
}

function refuseEndless(der: Buffer, wish: KeyWish): void {
  let rounds: number;
  try {
    const [algorithm] = sequenceOf(readDer(der));
    rounds = roundsOf(algorithm);
  } catch (error) {
    throw refuseKey(wish, 'a damaged private key', wish.hint, error);
  }
  if (rounds > maxRounds) {
    throw refuseEncryption(wish, `with more than ${maxRounds} rounds of key derivation`);
  }
}

const pbes2 = '1.2.840.113549.1.5.13';
const scrypt = '1.3.6.1.4.1.11591.4.11';

/** Of the derivation inside PBES2 (RFC 8018 §6.2), or of the older schemes, which are one themselves: salt, count. */
function roundsOf(algorithm: DerElement | undefined): number {
  const [scheme, parameters] = sequenceOf(algorithm);
  const [derivation, values] =
    oidOf(scheme) === pbes2 ? sequenceOf(sequenceOf(parameters)[0]) : [scheme, parameters];
  const [, ...costs] = sequenceOf(values);
  // The work of scrypt (RFC 7914 §7) is the product of all three.
  const counted = costs.slice(0, oidOf(derivation) === scrypt ? 3 : 1);
  return counted.reduce((product, cost) => product * numberOf(cost), 1);
}

function numberOf(element: DerElement): number {
  const magnitude = unsignedOf(element);
  return magnitude.length > 6 ? Infinity : Number(`0x0${magnitude.toString('hex')}`);
}
