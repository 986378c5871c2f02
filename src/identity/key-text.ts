/**
 * Finds the one key in the bytes of a file: a PEM block, an OpenSSH public line, or a JSON Web Key. It names other
 * common contents by their outer form, and never repeats a byte of them.
 */
import { nameOfSshType } from './foreign-key.js';
import { escapedPem } from '../base/pem.js';
import { isUtf16 } from '../base/text.js';
import { findCurveBySshType } from './curve.js';
import { parseJwk, type Jwk } from './jwk.js';
import { refuseKey, type ExpectedKey } from './key-errors.js';
import { scanPem, type PemBlock } from './pem.js';

export interface SshLine {
  readonly type: string;
  readonly blob: Buffer;
  readonly comment: string;
}

export type KeyText =
  | { readonly form: 'pem'; readonly block: PemBlock }
  | { readonly form: 'ssh-line'; readonly line: SshLine }
  | { readonly form: 'jwk'; readonly jwk: Jwk };

interface Known {
  readonly found: string;
  readonly hint?: (path: string) => string;
}

const labels: Readonly<Record<string, Known>> = {
  'PUBLIC KEY': { found: 'a public key' },
  'RSA PUBLIC KEY': { found: 'an RSA public key' },
  'SSH2 PUBLIC KEY': { found: 'a public key in SSH2 form', hint: path => `ssh-keygen -i -f ${path}` },
  'PRIVATE KEY': { found: 'a private key' },
  'ENCRYPTED PRIVATE KEY': { found: 'a private key' },
  'EC PRIVATE KEY': { found: 'a private key' },
  'OPENSSH PRIVATE KEY': { found: 'a private key' },
  'RSA PRIVATE KEY': { found: 'an RSA private key' },
  'DSA PRIVATE KEY': { found: 'a DSA private key' },
  CERTIFICATE: { found: 'a certificate' },
  'X509 CERTIFICATE': { found: 'a certificate' },
  'TRUSTED CERTIFICATE': { found: 'a certificate' },
  'CERTIFICATE REQUEST': { found: 'a certificate request' },
  'NEW CERTIFICATE REQUEST': { found: 'a certificate request' },
  'X509 CRL': { found: 'a revocation list' },
  'EC PARAMETERS': { found: 'curve parameters without a key' },
  PKCS7: { found: 'a PKCS#7 bundle' },
  CMS: { found: 'a CMS message' },
  'TSS2 PRIVATE KEY': { found: 'a private key that only a TPM can use (TSS2)' },
  'PKCS#11 PROVIDER URI': { found: 'a PKCS#11 URI in place of a key' },
};

/** The contents of a PEM block, by its label. */
export function nameOfLabel(label: string): string {
  return (
    labels[label]?.found ?? (label.startsWith('PGP ') ? 'an OpenPGP block' : 'a PEM block of another kind')
  );
}

/** Returns the one key, or throws KEY_UNSUPPORTED with one line that names the contents. */
export function parseKeyText(bytes: Uint8Array, expected: ExpectedKey): KeyText {
  const text = textOf(bytes, expected);
  if (/^\s*\{/.test(text)) return { form: 'jwk', jwk: parseJwk(text, expected) };
  const { blocks, strayLines, damaged } = scanPem(text);
  if (damaged) throw refuseKey(expected, 'a damaged PEM block');
  const sshLines = strayLines.filter(isSshLine);
  const keys = blocks.length > 1 ? blocks.filter(({ label }) => !label.endsWith(' PARAMETERS')) : blocks;
  if (keys.length + sshLines.length > 1) throw refuseSeveral(keys, sshLines, expected);
  const [block] = keys;
  if (block) return { form: 'pem', block };
  const [line] = sshLines;
  if (line === undefined) throw refuseStray(strayLines, expected);
  if (strayLines.length > 1) throw refuseKey(expected, 'an OpenSSH key and other lines');
  return { form: 'ssh-line', line: readSshLine(line, expected) };
}

function textOf(bytes: Uint8Array, expected: ExpectedKey): string {
  if (bytes.length === 0) throw refuseKey(expected, 'nothing');
  if (isUtf16(bytes)) {
    throw refuseKey(expected, 'UTF-16 text', 'save it again as UTF-8 or ASCII');
  }
  if (bytes[0] === 0x30 && bytes.some(byte => byte < 0x09 || byte > 0x7e)) throw refuseDer(bytes, expected);
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    if (!text.includes('\0')) return text;
  } catch {
    // Said below.
  }
  throw refuseKey(expected, 'binary data');
}

/** PFX of RFC 7292: version 3, then content of the type data. */
const pkcs12 =
  /^30(?:[0-7].|80|8[1-4](?:..){1,4})02010330(?:[0-7].|80|8[1-4](?:..){1,4})06092a864886f70d010701/;
/** Certificate of RFC 5280: the signed part begins with version 3. */
const certificate = /^30(?:[0-7].|8[1-4](?:..){1,4})30(?:[0-7].|8[1-4](?:..){1,4})a003020102/;

function refuseDer(bytes: Uint8Array, expected: ExpectedKey) {
  const { path } = expected;
  const start = Buffer.from(bytes.subarray(0, 64)).toString('hex');
  if (pkcs12.test(start)) {
    const command = `openssl pkcs12 -in ${path} -nodes -nocerts -out node-key.pem`;
    return refuseKey(expected, 'a PKCS#12 bundle', `take the private key out of it: ${command}`);
  }
  if (certificate.test(start)) {
    const command = `openssl x509 -inform DER -in ${path} -pubkey -noout`;
    return refuseKey(expected, 'a certificate in DER', `its public key: ${command}`);
  }
  const command = `openssl pkey -inform DER -in ${path} (and -pubin for a public key)`;
  return refuseKey(expected, 'binary DER', `turn it into PEM with: ${command}`);
}

const sshType = /^(ssh-(rsa|dss|ed25519|ed448|xmss)|ecdsa-sha2-|sk-|webauthn-|rsa-sha2-)\S*$/;

function isSshLine(line: string): boolean {
  return sshType.test(line.split(/\s/, 1)[0] ?? '');
}

function readSshLine(line: string, expected: ExpectedKey): SshLine {
  const [type = '', base64 = '', ...comment] = line.split(/\s+/);
  const known = findCurveBySshType(type) !== undefined;
  if (!known) throw refuseKey(expected, nameOfSshType(type), hintForSshType(type, expected));
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64) || base64.length % 4 !== 0) {
    throw refuseKey(expected, 'a damaged OpenSSH key');
  }
  return { type, blob: Buffer.from(base64, 'base64'), comment: printable(comment.join(' ')) };
}

function hintForSshType(type: string, expected: ExpectedKey): string {
  return type.includes('-cert-')
    ? 'give the key the certificate was made for: the .pub file without -cert'
    : expected.hint;
}

/** Clipped first: half of a surrogate pair, which clipping may leave, is replaced like a control character. */
function printable(comment: string): string {
  return comment.slice(0, 256).replaceAll(/[^\P{C}]/gu, '');
}

function refuseSeveral(blocks: readonly PemBlock[], sshLines: readonly string[], expected: ExpectedKey) {
  const names = [...blocks.map(({ label }) => nameOfLabel(label)), ...sshLines.map(() => 'a public key')];
  const list = names.length > 4 ? [...names.slice(0, 3), '…'] : names;
  return refuseKey(
    expected,
    `${names.length} things (${list.join(', ')})`,
    'put each key in a file of its own',
  );
}

const strangers: readonly (readonly [RegExp, string, ((path: string) => string)?])[] = [
  [
    /^PuTTY-User-Key-File-/,
    'a PuTTY key',
    path => `turn it into OpenSSH form with: puttygen ${path} -O private-openssh`,
  ],
  [
    /^---- BEGIN SSH2 PUBLIC KEY ----/,
    'a public key in SSH2 form',
    path => `turn it into OpenSSH form with: ssh-keygen -i -f ${path}`,
  ],
  [/^AGE-SECRET-KEY-/, 'an age key'],
  [/^age1/, 'an age key'],
  [/^untrusted comment:/, 'a minisign or signify key'],
  [/^\[/, 'JSON'],
  [/^pkcs11:/, 'a PKCS#11 URI in place of a key'],
  [
    escapedPem,
    'PEM with \\n in place of line ends',
    path => `turn them into line ends: printf '%b' "$(cat ${path})" > node-key.pem`,
  ],
  [
    /\s(ssh-\S+|ecdsa-sha2-\S+) AAAA/,
    'an authorized_keys or known_hosts line',
    () => 'keep what begins with ecdsa-sha2- and put it on a line of its own',
  ],
];

function refuseStray([line]: readonly string[], expected: ExpectedKey) {
  if (line === undefined) return refuseKey(expected, 'no key');
  const [, found, hint] = strangers.find(([pattern]) => pattern.test(line)) ?? [];
  return refuseKey(expected, found ?? 'data that is not a key', hint?.(expected.path));
}
