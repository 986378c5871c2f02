/**
 * Decrypts PEM private keys with node:crypto. The cost of the key derivation is stated in the file and may be days:
 * it is read and bounded before OpenSSL begins.
 */
import { createPrivateKey, type PrivateKeyInput } from 'node:crypto';
import { systemErrorCode } from '../base/errors.js';
import { oidOf, readDer, sequenceOf, unsignedOf, type DerElement } from './der.js';
import { missingPassphrase, refuseKey, wrongPassphrase, type ExpectedKey } from './key-errors.js';
import type { PemBlock } from './pem.js';

/** OpenSSL's default is 2,048; cautious users choose a million or two. Each costs less than a microsecond. */
const maxRounds = 10_000_000;

/** The unencrypted PKCS#8 of a block that is encrypted by PKCS#8 or in the legacy way of OpenSSL (RFC 1421). */
export function decryptPem(block: PemBlock, passphrase: string | undefined, expected: ExpectedKey): Buffer {
  if (passphrase === undefined) throw missingPassphrase(expected);
  if (block.label !== 'ENCRYPTED PRIVATE KEY') {
    return decrypt({ key: block.text, format: 'pem', passphrase }, expected);
  }
  refuseTooManyRounds(block.body, expected);
  // The same bytes that were checked: as PEM, headers could have them decrypted twice.
  return decrypt({ key: block.body, format: 'der', type: 'pkcs8', passphrase }, expected);
}

function decrypt(input: PrivateKeyInput, expected: ExpectedKey): Buffer {
  try {
    return createPrivateKey(input).export({ type: 'pkcs8', format: 'der' });
  } catch (error) {
    if (/EVP_UNSUPPORTED|UNSUPPORTED_(CIPHER|ENCRYPTION)/.test(systemErrorCode(error) ?? '')) {
      throw refuseEncryption(expected, 'in an unsupported way');
    }
    throw wrongPassphrase(expected);
  }
}

function refuseEncryption(expected: ExpectedKey, how: string) {
  return refuseKey(
    expected,
    `a private key encrypted ${how}`,
    `encrypt it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in ${expected.path} -out ${expected.path}.new`,
  );
}

function refuseTooManyRounds(der: Buffer, expected: ExpectedKey): void {
  let rounds: number;
  try {
    const [algorithm] = sequenceOf(readDer(der));
    rounds = roundsOf(algorithm);
  } catch (error) {
    throw refuseKey(expected, 'a damaged private key', expected.hint, error);
  }
  if (rounds > maxRounds) {
    throw refuseEncryption(expected, `with more than ${maxRounds} rounds of key derivation`);
  }
}

const pbes2 = '1.2.840.113549.1.5.13';
const scrypt = '1.3.6.1.4.1.11591.4.11';

/** The parameters of the derivation inside PBES2 (RFC 8018 §6.2), or of the older schemes: salt, count. */
function roundsOf(algorithm: DerElement | undefined): number {
  const [scheme, parameters] = sequenceOf(algorithm);
  const [derivation, values] =
    oidOf(scheme) === pbes2 ? sequenceOf(sequenceOf(parameters)[0]) : [scheme, parameters];
  const [, ...costs] = sequenceOf(values);
  // The cost of scrypt (RFC 7914 §7) is the product of all three.
  const counted = costs.slice(0, oidOf(derivation) === scrypt ? 3 : 1);
  return counted.reduce((product, cost) => product * numberOf(cost), 1);
}

function numberOf(element: DerElement): number {
  const magnitude = unsignedOf(element);
  return magnitude.length > 6 ? Infinity : Number(`0x0${magnitude.toString('hex')}`);
}
