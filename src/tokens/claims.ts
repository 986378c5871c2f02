/**
 * The claims of an access token (RFC 9068), as the link writes them and as every verifier reads them: both are in one
 * file so that they cannot differ. Reading checks every claim by type and size; check-token.ts has verified the
 * signature before.
 */
import { tokenExpired, tokenRefused } from './refusals.js';
import { isJsonObject } from './strict-json.js';

/** Times are milliseconds since 1970, whole seconds as in the token. */
export interface TokenClaims {
  readonly issuer: string;
  /** `user:…`, `service:…` or `node:` and its id. */
  readonly subject: string;
  readonly audience: string;
  readonly tenant: string;
  readonly roles: readonly string[];
  /** The scope, separated by spaces: permissions at the link, scopes of a service elsewhere. */
  readonly scope?: string | undefined;
  /** `roles` without a requested scope: the link then uses the permissions of the roles at each request. */
  readonly scopeFrom?: 'roles' | undefined;
  /** `jti` */
  readonly tokenId: string;
  /** The program it was issued to (`client_id`); undefined in tokens of older links. */
  readonly client?: string | undefined;
  /** The login it came from (`sid`). */
  readonly session?: string | undefined;
  /** SHA-256 of the certificate that its holder must present, base64url (RFC 8705 §3.1). */
  readonly confirmation?: string | undefined;
  readonly issuedAt: number;
  readonly notBefore: number;
  readonly expiresAt: number;
}

/** The maximum lifetime of any token, ms. */
const maxLifeMs = 400 * 86_400_000;

/** The payload of a token. */
export function encodeClaims(claims: TokenClaims): Buffer {
  const payload = {
    iss: claims.issuer,
    sub: claims.subject,
    aud: claims.audience,
    iat: toSeconds(claims.issuedAt),
    nbf: toSeconds(claims.notBefore),
    exp: toSeconds(claims.expiresAt),
    jti: claims.tokenId,
    client_id: claims.client,
    tenant_id: claims.tenant,
    roles: claims.roles,
    scope: claims.scope,
    scope_from: claims.scopeFrom,
    sid: claims.session,
    cnf: claims.confirmation === undefined ? undefined : { 'x5t#S256': claims.confirmation },
  };
  return Buffer.from(JSON.stringify(payload));
}

/** Reads a payload with a valid signature; throws TOKEN_REFUSED. Audience and times are checked below. */
export function readClaims(payload: unknown): TokenClaims {
  if (!isJsonObject(payload)) throw tokenRefused('the payload is not an object');
  const claims = {
    issuer: requireText(payload, 'iss'),
    subject: requireText(payload, 'sub'),
    audience: readAudience(payload['aud']),
    tenant: requireText(payload, 'tenant_id'),
    roles: readRoles(payload['roles']),
    scope: findText(payload, 'scope', maxScopeLength),
    scopeFrom: readScopeFrom(payload['scope_from']),
    tokenId: requireText(payload, 'jti'),
    client: findText(payload, 'client_id'),
    session: findText(payload, 'sid'),
    confirmation: readConfirmation(payload['cnf']),
    issuedAt: requireTime(payload, 'iat'),
    notBefore: requireTime(payload, 'nbf'),
    expiresAt: requireTime(payload, 'exp'),
  };
  if (claims.expiresAt <= claims.issuedAt) throw tokenRefused('exp is not after iat');
  if (claims.expiresAt <= claims.notBefore) throw tokenRefused('exp is not after nbf');
  if (claims.expiresAt - claims.issuedAt > maxLifeMs) throw tokenRefused('exp is too far from iat');
  return claims;
}

export interface Expected {
  readonly issuer: string;
  readonly audience: string;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** The allowed difference of two clocks, ms. */
  readonly toleranceMs: number;
}

/** Throws TOKEN_REFUSED; expiry is checked last, so that it is reported only for an otherwise valid token. */
export function expectClaims(claims: TokenClaims, { issuer, audience, now, toleranceMs }: Expected): void {
  if (claims.issuer !== issuer) throw tokenRefused('unexpected iss');
  if (claims.audience !== audience) throw tokenRefused('unexpected aud');
  if (claims.issuedAt > now + toleranceMs) throw tokenRefused('iat is in the future');
  if (claims.notBefore > now + toleranceMs) throw tokenRefused('nbf is in the future');
  if (claims.expiresAt + toleranceMs <= now) throw tokenExpired();
}

const maxTextLength = 512;
const maxScopeLength = 4096;
const maxRoles = 100;
/** 9999-12-31, seconds: later dates have no common form. */
const lastSecond = 253_402_300_799;
/** 32 bytes in base64url; the last character carries four bits. */
const thumbprint = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;
/** Controls, direction marks and lone surrogates: an honest issuer never writes them into a claim. */
const invisible = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

function toSeconds(ms: number): number {
  return Math.floor(ms / 1000);
}

function isText(value: unknown, max = maxTextLength): value is string {
  return typeof value === 'string' && value !== '' && value.length <= max && !invisible.test(value);
}

function requireText(payload: Readonly<Record<string, unknown>>, name: string): string {
  const value = payload[name];
  if (isText(value)) return value;
  throw tokenRefused(`${name} is missing or no text`);
}

function findText(
  payload: Readonly<Record<string, unknown>>,
  name: string,
  max?: number,
): string | undefined {
  const value = payload[name];
  if (value === undefined || isText(value, max)) return value;
  throw tokenRefused(`${name} is no text`);
}

/** NumericDate (RFC 7519 §2), whole seconds. */
function requireTime(payload: Readonly<Record<string, unknown>>, name: string): number {
  const value = payload[name];
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= lastSecond)
    return value * 1000;
  throw tokenRefused(`${name} is missing or no time`);
}

/** RFC 7519 §4.1.3 allows a list; with several audiences the token could be used at the others too. */
function readAudience(value: unknown): string {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  const [only, ...others] = list;
  if (isText(only) && others.length === 0) return only;
  throw tokenRefused('aud is missing or not exactly one');
}

/** Any other value must not widen the scope. */
function readScopeFrom(value: unknown): 'roles' | undefined {
  if (value === undefined || value === 'roles') return value;
  throw tokenRefused('invalid scope_from');
}

function readRoles(value: unknown = []): readonly string[] {
  if (Array.isArray(value) && value.length <= maxRoles && value.every(role => isText(role))) return value;
  throw tokenRefused('roles must be a list of strings');
}

/** RFC 7800 §3.1. Other confirmation methods cannot be checked here. */
function readConfirmation(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const text = isJsonObject(value) && Object.keys(value).length === 1 ? value['x5t#S256'] : undefined;
  if (typeof text === 'string' && thumbprint.test(text)) return text;
  throw tokenRefused('unsupported cnf');
}
