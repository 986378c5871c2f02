/**
 * From a string to claims one may go by (RFC 7519, with what RFC 8725 advises). The order is the point: size, shape
 * and header first, with nothing in the header believed but as a choice among our own keys; then the signature; and
 * only then what the token says.
 */
import type { KeyObject } from 'node:crypto';
import { compactVerify } from 'jose';
import { isTokenAlgorithm, type TokenAlgorithm } from './algorithms.js';
import { expectClaims, readClaims, type TokenClaims } from './claims.js';
import { tokenRefused } from './refusals.js';
import { decodeBase64url, isJsonObject, parseStrictJson } from './strict-json.js';

/** The longest token that is looked at, bytes. */
export const maxTokenBytes = 8 * 1024;
/** `typ` of an access token (RFC 9068 §2.1): it keeps other JWTs of the same issuer from being taken for one. */
export const accessTokenType = 'at+jwt';

/** Public key, or the bytes of a secret. */
export type VerifyingKey = KeyObject | Uint8Array;

export interface TokenCheck {
  readonly issuer: string;
  readonly audience: string;
  readonly algorithms: readonly TokenAlgorithm[];
  /** Our own keys of that name, made for that algorithm; none for an unknown one. Usually there is one. */
  readonly findKeys: (
    kid: string,
    algorithm: TokenAlgorithm,
  ) => readonly VerifyingKey[] | Promise<readonly VerifyingKey[]>;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** How far two clocks may be apart, ms. */
  readonly toleranceMs: number;
}

export interface SignedClaims {
  readonly claims: TokenClaims;
  readonly kid: string;
  readonly algorithm: TokenAlgorithm;
}

/** Throws TOKEN_REFUSED, or what `findKeys` throws. A confirmation in the claims is left to the caller. */
export async function checkToken(token: string, check: TokenCheck): Promise<TokenClaims> {
  const { claims } = await checkSignature(token, check);
  expectClaims(claims, { ...check, now: check.now() });
  return claims;
}

/** The half that stays true for as long as the key does: who a token is for and when it counts is left to the caller. */
export async function checkSignature(
  token: string,
  check: Pick<TokenCheck, 'algorithms' | 'findKeys'>,
): Promise<SignedClaims> {
  const { payload, ...signed } = await checkSigned(token, check, accessToken);
  return { claims: readClaims(payload), ...signed };
}

/** What is signed for one purpose is nothing for another. */
export interface SignedForm {
  /** `typ` of the header. */
  readonly type: string;
  readonly maxBytes: number;
}

const accessToken: SignedForm = { type: accessTokenType, maxBytes: maxTokenBytes };

/** The payload of a compact JWS of this form, as JSON, once its signature holds; judging what it says is the caller's. */
export async function checkSigned(
  token: string,
  check: Pick<TokenCheck, 'algorithms' | 'findKeys'>,
  form: SignedForm,
): Promise<{ readonly payload: unknown; readonly kid: string; readonly algorithm: TokenAlgorithm }> {
  const { kid, algorithm } = readHeader(token, form);
  if (!check.algorithms.includes(algorithm)) throw tokenRefused('alg is not the one for this audience');
  const keys = await check.findKeys(kid, algorithm);
  if (keys.length === 0) throw tokenRefused('kid names no key for this');
  const payload = await verifySignature(token, keys, algorithm);
  return { payload: parsePart(payload, 'payload'), kid, algorithm };
}

interface Header {
  readonly kid: string;
  readonly algorithm: TokenAlgorithm;
}

const compact = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/;
const kidPattern = /^[A-Za-z0-9_-]{1,128}$/;
const headerNames: ReadonlySet<string> = new Set(['alg', 'kid', 'typ']);

function readHeader(token: string, { type, maxBytes }: SignedForm): Header {
  if (token.length > maxBytes) throw tokenRefused('it is too long');
  const parts = compact.exec(token)?.slice(1).map(decodeBase64url);
  if (!parts?.every(part => part !== undefined)) throw tokenRefused('it is no compact JWS');
  const header = parsePart(parts[0], 'header');
  if (!isJsonObject(header)) throw tokenRefused('the header is no object');
  // Whatever brings a key along (jwk, jku, x5c, x5u) or changes the rules (crit, b64) is among the others.
  const other = Object.keys(header).find(name => !headerNames.has(name));
  if (other !== undefined) throw tokenRefused('the header holds more than alg, kid and typ');
  const { alg, kid, typ } = header;
  if (typ !== type) throw tokenRefused(`typ is not ${type}`);
  if (!isTokenAlgorithm(alg)) throw tokenRefused('unsupported alg');
  if (typeof kid !== 'string' || !kidPattern.test(kid)) throw tokenRefused('kid is missing or none of ours');
  return { kid, algorithm: alg };
}

async function verifySignature(
  token: string,
  keys: readonly VerifyingKey[],
  algorithm: TokenAlgorithm,
): Promise<Uint8Array> {
  let reason: unknown;
  for (const key of keys) {
    try {
      return (await compactVerify(token, key, { algorithms: [algorithm] })).payload;
    } catch (error) {
      reason = error;
    }
  }
  throw tokenRefused('the signature does not hold', reason);
}

function parsePart(bytes: Uint8Array | undefined, what: string): unknown {
  try {
    return parseStrictJson(bytes ?? Buffer.of());
  } catch (error) {
    throw tokenRefused(`the ${what} is no plain JSON`, error);
  }
}
