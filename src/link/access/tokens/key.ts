/**
 * One key that signs tokens: made, read back from its record, and proven to work before anyone relies on it. ES256 and
 * RS256 keys serve every audience of their algorithm, for only the link can sign with them. A secret of HS256 serves
 * one audience: anyone who can verify with it can sign with it too.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  sign,
  verify,
  type JsonWebKey,
  type KeyObject,
} from 'node:crypto';
import { promisify } from 'node:util';
import { calculateJwkThumbprint } from 'jose';
import { RollcallError } from '../../../base/errors.js';
import type { Random } from '../../../base/random.js';
import { visibleText } from '../../../base/text.js';
import {
  isTokenAlgorithm,
  minRsaBits,
  minSecretBytes,
  type TokenAlgorithm,
} from '../../../tokens/algorithms.js';
import type { VerifyingKey } from '../../../tokens/check-token.js';
import { decodeBase64url, isJsonObject } from '../../../tokens/strict-json.js';

/** As it stands in the file. Times are milliseconds since 1970. */
export interface TokenKeyRecord {
  /** The RFC 7638 thumbprint, but random for a secret: a thumbprint of that would be a hash to guess by. */
  readonly kid: string;
  readonly algorithm: TokenAlgorithm;
  /** Of a secret alone. */
  readonly audience: string | null;
  /** Since when it is published, or handed out where it is a secret. */
  readonly createdAt: number;
  /** From when it signs; null while it waits and nothing was decided. */
  readonly signsAt: number | null;
  /** From when it only verifies: when the one after it signs. */
  readonly retiredAt: number | null;
  /** Private. */
  readonly jwk: JsonWebKey;
}

export interface TokenKey extends TokenKeyRecord {
  /** Private key, or the bytes of a secret. */
  readonly signing: KeyObject | Uint8Array;
  readonly verifying: VerifyingKey;
}

const rsaBits = 3072;
const generate = promisify(generateKeyPair);

export interface NewKey {
  readonly algorithm: TokenAlgorithm;
  readonly audience: string | null;
  readonly signsAt: number | null;
  readonly now: number;
  readonly random: Random;
}

export async function makeTokenKey(wanted: NewKey): Promise<TokenKey> {
  const { algorithm, audience, signsAt, now, random } = wanted;
  const times = { createdAt: now, signsAt, retiredAt: null };
  if (algorithm === 'HS256') {
    const jwk = { kty: 'oct', k: random(minSecretBytes).toString('base64url') };
    return openTokenKey({ kid: random(16).toString('hex'), algorithm, audience, ...times, jwk });
  }
  const { privateKey } =
    algorithm === 'ES256'
      ? await generate('ec', { namedCurve: 'P-256' })
      : await generate('rsa', { modulusLength: rsaBits });
  const jwk = privateKey.export({ format: 'jwk' });
  const kid = await calculateJwkThumbprint(jwk);
  return openTokenKey({ kid, algorithm, audience: null, ...times, jwk });
}

/** CONFIG_INVALID, with the kid, for a key that is damaged, too weak, or not what its record says. */
export async function openTokenKey(record: TokenKeyRecord): Promise<TokenKey> {
  const { kid, algorithm, jwk } = record;
  if (algorithm === 'HS256') {
    const secret = readSecret(kid, jwk);
    return { ...record, signing: secret, verifying: secret };
  }
  const signing = readPrivateKey(kid, algorithm, jwk);
  const verifying = createPublicKey(signing);
  if ((await calculateJwkThumbprint(jwk)) !== kid) throw unfit(kid, 'it is not the key of that name');
  if (!worksTogether(signing, jwk)) throw unfit(kid, 'it is damaged');
  return { ...record, signing, verifying };
}

function readSecret(kid: string, { kty, k }: JsonWebKey): Buffer {
  const secret = kty === 'oct' && typeof k === 'string' ? decodeBase64url(k) : undefined;
  if (!secret) throw unfit(kid, 'it is damaged');
  if (secret.length < minSecretBytes) throw unfit(kid, `it has less than ${minSecretBytes * 8} bits`);
  return secret;
}

function readPrivateKey(kid: string, algorithm: 'ES256' | 'RS256', jwk: JsonWebKey): KeyObject {
  const key = parsePrivateKey(kid, jwk);
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  const fits = algorithm === 'ES256' ? namedCurve === 'prime256v1' : key.asymmetricKeyType === 'rsa';
  if (!fits) throw unfit(kid, `it is no key for ${algorithm}`);
  if (algorithm === 'RS256' && modulusLength < minRsaBits)
    throw unfit(kid, `it has less than ${minRsaBits} bits`);
  return key;
}

function parsePrivateKey(kid: string, jwk: JsonWebKey): KeyObject {
  try {
    return createPrivateKey({ key: jwk, format: 'jwk' });
  } catch (error) {
    throw unfit(kid, 'it is damaged', error);
  }
}

/** A bit that fell over in the file would show as tokens that nobody can verify. */
function worksTogether(signing: KeyObject, { kty, crv, x, y, n, e }: JsonWebKey): boolean {
  const probe = Buffer.from('rollcall');
  const members = kty === 'EC' ? { kty, crv, x, y } : { kty, n, e };
  try {
    const published = createPublicKey({ key: members as JsonWebKey, format: 'jwk' });
    return verify('sha256', probe, published, sign('sha256', probe, signing));
  } catch {
    return false;
  }
}

/** The record without what was opened from it. */
export function recordOf(key: TokenKey): TokenKeyRecord {
  const { kid, algorithm, audience, createdAt, signsAt, retiredAt, jwk } = key;
  return { kid, algorithm, audience, createdAt, signsAt, retiredAt, jwk };
}

const kidPattern = /^[A-Za-z0-9_-]{1,128}$/;

/** Takes one entry of the file apart; CONFIG_INVALID. */
export function readKeyRecord(entry: unknown): TokenKeyRecord {
  if (!isJsonObject(entry)) throw unfit('?', 'it is damaged');
  // A key of before any waited signed from the moment it was made.
  const { kid, algorithm, audience, createdAt, signsAt = createdAt, retiredAt, jwk } = entry;
  if (typeof kid !== 'string' || !kidPattern.test(kid)) throw unfit(String(kid), 'that is no kid');
  if (!isTokenAlgorithm(algorithm)) throw unfit(kid, 'its algorithm is not known');
  if (!isAudience(audience) || (audience === null) === (algorithm === 'HS256'))
    throw unfit(kid, 'a secret has one audience, and no other key has any');
  if (!isTime(createdAt) || !isTimeOrNull(signsAt) || !isTimeOrNull(retiredAt) || !isJsonObject(jwk))
    throw unfit(kid, 'it is damaged');
  return { kid, algorithm, audience, createdAt, signsAt, retiredAt, jwk };
}

function isAudience(value: unknown): value is string | null {
  return value === null || (typeof value === 'string' && value !== '');
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function isTimeOrNull(value: unknown): value is number | null {
  return value === null || isTime(value);
}

export function unfit(kid: string, what: string, cause?: unknown): RollcallError {
  return new RollcallError('CONFIG_INVALID', `the token key ${visibleText(kid)} cannot be used: ${what}`, {
    hint: 'bring token-keys.json back from a backup, or move it away for new keys; then everybody logs in again',
    cause,
  });
}
