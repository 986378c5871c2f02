/**
 * The list of revocations that the link signs for verifiers without introspection: ids with the time at which each
 * would have ended by itself, and the times before which tokens of a holder or of the whole tenant are invalid. A JWS
 * with a `typ` of its own, so that no token is accepted as a list and no list as a token.
 */
import type { TokenClaims } from './claims.js';
import { tokenExpired, tokenRefused } from './refusals.js';
import { isJsonObject } from './strict-json.js';

export const revokedListType = 'rollcall-revoked+jwt';
/** Maximum of ids, and of holders; a list that would have more is marked as incomplete. */
export const maxRevokedEntries = 10_000;
/** The maximum length of a list, bytes. */
export const maxRevokedListBytes = 4 * 1024 * 1024;

/** Times are milliseconds since 1970. */
export interface TimeSpan {
  readonly since: number;
  /** The first moment after the span. */
  readonly before: number;
}

export function isWithin({ since, before }: TimeSpan, at: number): boolean {
  return since <= at && at < before;
}

/** Times are milliseconds since 1970, whole seconds as in the list. */
export interface RevokedList {
  readonly issuer: string;
  readonly tenant: string;
  readonly issuedAt: number;
  /** The time to fetch the next list. */
  readonly expiresAt: number;
  /** False when the list was over its limit. */
  readonly isComplete: boolean;
  /** `jti`, `sid` or `sub`, and the end of the last token that it concerns. */
  readonly ids: ReadonlyMap<string, number>;
  /** By `sub`: tokens from before this time are invalid. */
  readonly holdersNotBefore: ReadonlyMap<string, number>;
  /** Tokens of the tenant from before this time are invalid; 0 for no such time. */
  readonly notBefore: number;
  /** Tokens of the tenant from these spans are invalid: from `since`, to just before `before`. */
  readonly notBetween: readonly TimeSpan[];
}

const toSeconds = (ms: number): number => Math.floor(ms / 1000);
const secondsOf = (times: ReadonlyMap<string, number>): Readonly<Record<string, number>> =>
  Object.fromEntries([...times].map(([id, ms]) => [id, toSeconds(ms)]));

/** The payload of a list. */
export function encodeRevokedList(list: RevokedList): Buffer {
  const payload = {
    iss: list.issuer,
    iat: toSeconds(list.issuedAt),
    exp: toSeconds(list.expiresAt),
    tenant_id: list.tenant,
    complete: list.isComplete,
    revoked: secondsOf(list.ids),
    holders_not_before: secondsOf(list.holdersNotBefore),
    not_before: toSeconds(list.notBefore),
    not_between: list.notBetween.map(({ since, before }) => [toSeconds(since), toSeconds(before)]),
  };
  return Buffer.from(JSON.stringify(payload));
}

/** Reads a payload with a valid signature; throws TOKEN_REFUSED. */
export function readRevokedList(payload: unknown): RevokedList {
  if (!isJsonObject(payload)) throw tokenRefused('the list is not an object');
  const { iss: issuer, tenant_id: tenant, complete: isComplete } = payload;
  if (typeof issuer !== 'string' || typeof tenant !== 'string' || typeof isComplete !== 'boolean')
    throw tokenRefused('iss, tenant_id or complete is missing in the list');
  return {
    issuer,
    tenant,
    isComplete,
    issuedAt: readTime(payload['iat']),
    expiresAt: readTime(payload['exp']),
    ids: readTimes(payload['revoked']),
    holdersNotBefore: readTimes(payload['holders_not_before']),
    notBefore: readTime(payload['not_before']),
    notBetween: readSpans(payload['not_between']),
  };
}

/** Throws TOKEN_REFUSED for a list of another issuer, or one that has expired. */
export function expectRevokedList(
  list: RevokedList,
  {
    issuer,
    now,
    toleranceMs,
  }: { readonly issuer: string; readonly now: number; readonly toleranceMs: number },
): void {
  if (list.issuer !== issuer) throw tokenRefused('unexpected iss of the list');
  if (list.issuedAt > now + toleranceMs) throw tokenRefused('iat of the list is in the future');
  if (list.expiresAt + toleranceMs <= now) throw tokenExpired();
}

/**
 * True for a token that the list names by its id, its session or its holder, and for one from before the time of its
 * holder or its tenant, or from an ended span. Times in tokens are whole seconds: a token of that very second is
 * valid.
 */
export function isRevokedBy(
  { tenant, ids, holdersNotBefore, notBefore, notBetween }: RevokedList,
  claims: Pick<TokenClaims, 'tenant' | 'tokenId' | 'session' | 'subject' | 'issuedAt'>,
): boolean {
  const { tokenId, session, subject, issuedAt } = claims;
  if (claims.tenant !== tenant) return false;
  if ([tokenId, session, subject].some(id => id !== undefined && ids.has(id))) return true;
  if (notBetween.some(span => isWithin(span, issuedAt))) return true;
  return issuedAt < Math.max(notBefore, holdersNotBefore.get(subject) ?? 0);
}

function readTime(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value * 1000;
  throw tokenRefused('a time of the list is missing or invalid');
}

/** Lists from before spans were added have no spans. */
function readSpans(value: unknown): readonly TimeSpan[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw tokenRefused('a member of the list is not an array');
  return value.map(span => {
    if (!Array.isArray(span)) throw tokenRefused('a span of the list is not an array');
    return { since: readTime(span[0]), before: readTime(span[1]) };
  });
}

function readTimes(value: unknown): ReadonlyMap<string, number> {
  if (!isJsonObject(value)) throw tokenRefused('a member of the list is not an object');
  return new Map(Object.entries(value).map(([id, time]) => [id, readTime(time)]));
}
