/**
 * A JSON Web Key Set (RFC 7517 §5), as the link publishes it and as verifiers read it. It holds public keys only,
 * each for one algorithm: a key is found by its name and its algorithm together.
 */
import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { minRsaBits, maxRsaBits } from './algorithms.js';
import { isJsonObject, parseStrictJson } from './strict-json.js';

export type JwksAlgorithm = 'ES256' | 'RS256';

/** Base64url strings except for the names. */
export interface PublicJwk {
  readonly kid: string;
  readonly alg: JwksAlgorithm;
  readonly use: 'sig';
  readonly kty: 'EC' | 'RSA';
  readonly crv?: string;
  readonly x?: string;
  readonly y?: string;
  readonly n?: string;
  readonly e?: string;
}

export interface Jwks {
  readonly keys: readonly PublicJwk[];
}

export interface JwksKey {
  readonly algorithm: JwksAlgorithm;
  readonly key: KeyObject;
}

/** The public half of a key, for the set. */
export function toPublicJwk(key: KeyObject, kid: string, alg: JwksAlgorithm): PublicJwk {
  const { kty, crv, x, y, n, e } = key.export({ format: 'jwk' });
  const names = { kid, alg, use: 'sig' } as const;
  return kty === 'EC'
    ? { ...names, kty, ...pick({ crv, x, y }) }
    : { ...names, kty: 'RSA', ...pick({ n, e }) };
}

/** By kid. Keys for other uses are ignored; a damaged key, or two with one kid, throw an Error for the whole set. */
export function parseJwks(bytes: Uint8Array): ReadonlyMap<string, JwksKey> {
  const set = parseStrictJson(bytes);
  const entries = isJsonObject(set) ? set['keys'] : undefined;
  if (!Array.isArray(entries)) throw new TypeError('not a set of keys');
  const keys = new Map<string, JwksKey>();
  for (const entry of entries.filter(isJsonObject)) {
    const { kid, alg, use = 'sig' } = entry;
    if (typeof kid !== 'string' || (alg !== 'ES256' && alg !== 'RS256') || use !== 'sig') continue;
    if (keys.has(kid)) throw new TypeError('two keys with one kid');
    keys.set(kid, { algorithm: alg, key: readPublicKey(entry, alg) });
  }
  return keys;
}

function readPublicKey(entry: Readonly<Record<string, unknown>>, algorithm: JwksAlgorithm): KeyObject {
  const { kty, crv, x, y, n, e } = entry;
  const members = algorithm === 'ES256' ? { kty, crv, x, y } : { kty, n, e };
  const fits = algorithm === 'ES256' ? kty === 'EC' && crv === 'P-256' : kty === 'RSA';
  if (!fits) throw new TypeError('a key does not fit its algorithm');
  const key = createPublicKey({ key: members as JsonWebKey, format: 'jwk' });
  const bits = key.asymmetricKeyDetails?.modulusLength;
  if (bits !== undefined && (bits < minRsaBits || bits > maxRsaBits))
    throw new TypeError('unsupported key size');
  return key;
}

function pick(members: Readonly<Record<string, string | undefined>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(members).filter((member): member is [string, string] => member[1] !== undefined),
  );
}
