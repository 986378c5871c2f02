/**
 * What a set of token keys means: which of them signs for an audience, which is published, and what a rotation makes of
 * each. Pure; token-keys.ts keeps the set.
 */
import type { TokenAlgorithm } from '../../tokens/algorithms.js';
import { toPublicJwk, type Jwks } from '../../tokens/jwks.js';
import type { TokenKey, TokenKeyRecord } from './token-key.js';

export interface TokenAlgorithms {
  readonly usual: TokenAlgorithm;
  readonly byAudience: Readonly<Record<string, TokenAlgorithm>>;
}

/** What people may see of a key. */
export type TokenKeyInfo = Omit<TokenKeyRecord, 'jwk'>;

/** What one signing key is for. */
export type Scope = Pick<TokenKeyRecord, 'algorithm' | 'audience'>;

export function algorithmOf({ usual, byAudience }: TokenAlgorithms, audience: string): TokenAlgorithm {
  // An audience may be called "constructor".
  return Object.hasOwn(byAudience, audience) ? (byAudience[audience] ?? usual) : usual;
}

export function inUse({ usual, byAudience }: TokenAlgorithms): ReadonlySet<TokenAlgorithm> {
  return new Set([usual, ...Object.values(byAudience)]);
}

export function scopeOf(algorithm: TokenAlgorithm, audience: string): Scope {
  return { algorithm, audience: algorithm === 'HS256' ? audience : null };
}

export function isOfScope(key: Scope, { algorithm, audience }: Scope): boolean {
  return key.algorithm === algorithm && key.audience === audience;
}

export function isCurrentOf(scope: Scope): (key: TokenKey) => boolean {
  return key => key.retiredAt === null && isOfScope(key, scope);
}

export interface RotationPlan {
  /** Each is to be followed by a new key. */
  readonly followed: readonly TokenKey[];
  /** They sign now, and are to verify only. */
  readonly retiring: readonly TokenKey[];
  readonly dropped: readonly TokenKey[];
  /** They stay as they are. */
  readonly rest: readonly TokenKey[];
}

export interface RotationRules {
  /** The keys that are concerned. */
  readonly chosen: (key: TokenKey) => boolean;
  /** Chosen keys do not stay to verify. */
  readonly dropOld: boolean;
  /** True when the last token of a retired key has ended: it is dropped in any case. */
  readonly isOver: (key: TokenKey) => boolean;
  /** False when configuration asks for its like no more: then nothing follows it. */
  readonly isAskedFor: (key: TokenKey) => boolean;
}

/** What becomes of each key. */
export function planRotation(keys: readonly TokenKey[], rules: RotationRules): RotationPlan {
  const { chosen, dropOld, isOver, isAskedFor } = rules;
  const isReplaced = (key: TokenKey): boolean => key.retiredAt === null && chosen(key);
  const isDropped = (key: TokenKey): boolean => isOver(key) || (dropOld && chosen(key));
  const kept = keys.filter(key => !isDropped(key));
  return {
    followed: keys.filter(key => isReplaced(key) && isAskedFor(key)),
    retiring: kept.filter(isReplaced),
    dropped: keys.filter(isDropped),
    rest: kept.filter(key => !isReplaced(key)),
  };
}

export function publicOf({ kid, algorithm, verifying }: TokenKey): Jwks['keys'] {
  return algorithm === 'HS256' || verifying instanceof Uint8Array
    ? []
    : [toPublicJwk(verifying, kid, algorithm)];
}

export function toInfo({ kid, algorithm, audience, createdAt, retiredAt }: TokenKeyRecord): TokenKeyInfo {
  return { kid, algorithm, audience, createdAt, retiredAt };
}

export function kids(keys: readonly TokenKeyInfo[]): readonly string[] {
  return keys.map(({ kid }) => kid);
}
