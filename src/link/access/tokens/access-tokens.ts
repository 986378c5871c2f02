/**
 * Access tokens of the link (RFC 9068): signs them, and says of one that comes back what it holds. Whether its holder
 * still exists and whether it was revoked is for others, and so is the certificate that a token may be bound to.
 */
import { CompactSign } from 'jose';
import { sha256Base64url } from '../../../base/hash.js';
import type { Clock } from '../../../base/clock.js';
import { isRollcallError, RollcallError } from '../../../base/errors.js';
import type { Random } from '../../../base/random.js';
import {
  accessTokenType,
  checkSignature,
  maxTokenBytes,
  type SignedClaims,
  type VerifyingKey,
} from '../../../tokens/check-token.js';
import { encodeClaims, expectClaims, readClaims, type TokenClaims } from '../../../tokens/claims.js';
import { parseStrictJson } from '../../../tokens/strict-json.js';
import { createBoundedMap } from '../bounded-map.js';
import type { TokenKeys } from './keys.js';

export type { TokenClaims } from '../../../tokens/claims.js';

export interface NewToken {
  /** `user:…`, `service:…` or `node:` and its id. */
  readonly subject: string;
  /** One that is known: an audience with HS256 gets a secret of its own, which is kept. */
  readonly audience: string;
  readonly tenant: string;
  /** The program it is issued to (RFC 9068 §2.2); defaults to the subject, where nobody stands behind a program. */
  readonly client?: string | undefined;
  readonly roles: readonly string[];
  /** Separated by spaces. */
  readonly scope?: string | undefined;
  /** `roles` when nobody asked for that scope (scope.ts). */
  readonly scopeFrom?: 'roles' | undefined;
  /** At least a second, at most 400 days, ms. */
  readonly lifetimeMs: number;
  /** 32 random hex digits by default. */
  readonly tokenId?: string | undefined;
  /** The family of refresh tokens it comes from. */
  readonly session?: string | undefined;
  /** SHA-256 of the certificate it is bound to, base64url. */
  readonly confirmation?: string | undefined;
  /** Now by default, milliseconds since 1970. */
  readonly issuedAt?: number | undefined;
}

export interface SignedToken {
  readonly token: string;
  readonly tokenId: string;
  readonly scope?: string | undefined;
  /** As in the token: whole seconds, in milliseconds since 1970. */
  readonly issuedAt: number;
  readonly expiresAt: number;
}

export interface AccessTokens {
  /** REQUEST_INVALID for what no verifier would take. */
  sign(token: NewToken): Promise<SignedToken>;
  /** TOKEN_REFUSED, `the token has expired` or `the token is not valid here`; the cause says more. */
  verify(token: string, audience: string): Promise<TokenClaims>;
}

export interface AccessTokensOptions {
  readonly keys: Pick<TokenKeys, 'algorithmFor' | 'signingKey' | 'verifyingKey'>;
  /** `iss`; a function where the port is known only later. */
  readonly issuer: string | (() => string);
  readonly clock: Clock;
  readonly random: Random;
  /** How far the clock may have been stepped back since, ms. */
  readonly clockToleranceMs?: number;
}

interface Verified extends SignedClaims {
  readonly key: VerifyingKey;
}

/** Many verifiers allow for no difference of clocks: one that is behind must not find a fresh token too early, ms. */
const validBeforeMs = 60_000;
/** Tokens whose signature need not be verified again. */
const verifiedKept = 10_000;

export function createAccessTokens({
  keys,
  issuer,
  clock,
  random,
  clockToleranceMs = 30_000,
}: AccessTokensOptions): AccessTokens {
  const issuerNow = (): string => (typeof issuer === 'string' ? issuer : issuer());
  /** By digest, so that no token lies about in memory. */
  const verified = createBoundedMap<Verified>(verifiedKept);

  /** A signature is verified once, not at every request, and forgotten with its key. */
  async function claimsOfSigned(token: string, audience: string): Promise<TokenClaims> {
    const digest = sha256Base64url(`${audience} ${token}`);
    const known = verified.get(digest);
    const defaultAlgorithm = keys.algorithmFor(audience);
    if (
      known?.algorithm === defaultAlgorithm &&
      keys.verifyingKey(audience, known.kid, defaultAlgorithm) === known.key
    )
      return known.claims;
    let used: VerifyingKey | undefined;
    const signed = await checkSignature(token, {
      algorithms: [defaultAlgorithm],
      findKeys(kid, algorithm) {
        used = keys.verifyingKey(audience, kid, algorithm);
        return used ? [used] : [];
      },
    });
    if (used) verified.set(digest, { ...signed, key: used });
    return signed.claims;
  }

  return {
    async sign(wanted) {
      const payload = encodeClaims(claimsOf(wanted, issuerNow(), clock, random));
      const { tokenId, issuedAt, expiresAt } = readOwn(payload);
      const { kid, algorithm, key } = await keys.signingKey(wanted.audience);
      const header = { alg: algorithm, typ: accessTokenType, kid };
      const token = await new CompactSign(payload).setProtectedHeader(header).sign(key);
      if (token.length > maxTokenBytes) throw unfit('it is too long');
      return { token, tokenId, scope: wanted.scope, issuedAt, expiresAt };
    },
    async verify(token, audience) {
      const claims = await claimsOfSigned(token, audience);
      expectClaims(claims, {
        issuer: issuerNow(),
        audience,
        now: clock.now(),
        toleranceMs: clockToleranceMs,
      });
      return claims;
    },
  };
}

function claimsOf(wanted: NewToken, issuer: string, clock: Clock, random: Random): TokenClaims {
  const { lifetimeMs, tokenId = random(16).toString('hex'), client = wanted.subject, ...claims } = wanted;
  const now = clock.now();
  const issuedAt = wanted.issuedAt ?? now;
  const times = { issuedAt, notBefore: issuedAt - validBeforeMs, expiresAt: now + lifetimeMs };
  return { ...claims, ...times, issuer, client, tokenId };
}

/** Our own payload as a verifier will read it: what it would refuse is not signed. */
function readOwn(payload: Buffer): TokenClaims {
  try {
    return readClaims(parseStrictJson(payload));
  } catch (error) {
    throw isRollcallError(error, 'TOKEN_REFUSED') ? unfit('a claim does not fit', error.cause) : error;
  }
}

function unfit(what: string, cause?: unknown): RollcallError {
  return new RollcallError('REQUEST_INVALID', `such a token cannot be made: ${what}`, {
    hint: 'a token lives a second to 400 days and has at most 100 roles',
    cause,
  });
}
