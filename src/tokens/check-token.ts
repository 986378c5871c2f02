/**
 * From a string to verified claims (RFC 7519, with the advice of RFC 8725). The order matters: size, shape and header
 * first, with the header used only to choose among our own keys; then the signature; and only then the claims.
 */
import type { KeyObject } from 'node:crypto';
import { compactVerify } from 'jose';
import { isTokenAlgorithm, type TokenAlgorithm } from './algorithms.js';
import { expectClaims, readClaims, type TokenClaims } from './claims.js';
import { tokenRefused } from './refusals.js';
import { decodeBase64url, isJsonObject, parseStrictJson } from './strict-json.js';

/** The maximum length of a token, bytes. */
export const maxTokenBytes = 8 * 1024;
/** `typ` of an access token (RFC 9068 §2.1): keeps other JWTs of the same issuer from being accepted as one. */
export const accessTokenType = 'at+jwt';

/** Public key, or the bytes of a secret. */
export type VerifyingKey = KeyObject | Uint8Array;

export interface TokenCheck {
  readonly issuer: string;
  readonly audience: string;
  readonly algorithms: readonly TokenAlgorithm[];
  /** Our own keys of that name for that algorithm, usually one; an empty list for an unknown name. */
  readonly findKeys: (
    kid: string,
    algorithm: TokenAlgorithm,
  ) => readonly VerifyingKey[] | Promise<readonly VerifyingKey[]>;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** The allowed difference of two clocks, ms. */
  readonly toleranceMs: number;
}

export interface SignedClaims {
  readonly claims: TokenClaims;
  readonly kid: string;
  readonly algorithm: TokenAlgorithm;
}

/** Throws TOKEN_REFUSED, or the error of `findKeys`. The caller checks a confirmation in the claims. */
export async function checkToken(token: string, check: TokenCheck): Promise<TokenClaims> {
  const { claims } = await checkSignature(token, check);
  expectClaims(claims, { ...check, now: check.now() });
  return claims;
}

/** The part that holds for as long as the key does: the caller checks audience and times. */
export async function checkSignature(
  token: string,
  check: Pick<TokenCheck, 'algorithms' | 'findKeys'>,
): Promise<SignedClaims> {
  const { payload, ...signed } = await checkSigned(token, check, accessToken);
  return { claims: readClaims(payload), ...signed };
}

/** A signature for one purpose is not valid for another. */
export interface SignedForm {
  /** `typ` of the header. */
  readonly type: string;
  readonly maxBytes: number;
}

const accessToken: SignedForm = { type: accessTokenType, maxBytes: maxTokenBytes };

/** The payload of a compact JWS of this form, as JSON, with a valid signature; the caller checks its members. */
export async function checkSigned(
  token: string,
  check: Pick<TokenCheck, 'algorithms' | 'findKeys'>,
  form: SignedForm,
): Promise<{ readonly payload: unknown; readonly kid: string; readonly algorithm: TokenAlgorithm }> {
  const { kid, algorithm } = readHeader(token, form);
  if (!check.algorithms.includes(algorithm)) throw tokenRefused('unexpected alg');
  const keys = await check.findKeys(kid, algorithm);
  if (keys.length === 0) throw tokenRefused('unknown kid');
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
  if (token.length > maxBytes) throw tokenRefused('the token is too long');
  const parts = compact.exec(token)?.slice(1).map(decodeBase64url);
  if (!parts?.every(part => part !== undefined)) throw tokenRefused('the token is not a compact JWS');
  const header = parsePart(parts[0], 'header');
  if (!isJsonObject(header)) throw tokenRefused('the header is not an object');
  // Members that bring a key (jwk, jku, x5c, x5u) or change the rules (crit, b64) are refused like any other member.
  const other = Object.keys(header).find(name => !headerNames.has(name));
  if (other !== undefined) throw tokenRefused('the header has other members than alg, kid and typ');
  const { alg, kid, typ } = header;
  if (typ !== type) throw tokenRefused(`typ is not ${type}`);
  if (!isTokenAlgorithm(alg)) throw tokenRefused('unsupported alg');
  if (typeof kid !== 'string' || !kidPattern.test(kid)) throw tokenRefused('kid is missing or invalid');
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
  throw tokenRefused('invalid signature', reason);
}

function parsePart(bytes: Uint8Array | undefined, what: string): unknown {
  try {
    return parseStrictJson(bytes ?? Buffer.of());
  } catch (error) {
    throw tokenRefused(`the ${what} is no plain JSON`, error);
  }
}
