/**
 * The meaning of a set of token keys: which of them signs for an audience, which is published, and what a rotation makes of
 * each. Pure; keys.ts keeps the set.
 */
import type { TokenAlgorithm } from '../../../tokens/algorithms.js';
import { toPublicJwk, type Jwks } from '../../../tokens/jwks.js';
import type { TokenKey, TokenKeyRecord } from './key.js';

export interface TokenAlgorithms {
  readonly defaultAlgorithm: TokenAlgorithm;
  readonly byAudience: Readonly<Record<string, TokenAlgorithm>>;
}

/** `next` waits, published, until those who verify have fetched it. */
export type KeyUse = 'next' | 'signs' | 'verifies';

/** A key as people may see it. */
export interface TokenKeyInfo extends Omit<TokenKeyRecord, 'jwk'> {
  readonly use: KeyUse;
}

/** For the operator to hand to the audience; the one that signs first, then the next. */
export interface AudienceSecret {
  readonly kid: string;
  readonly use: KeyUse;
  /** Base64url. */
  readonly secret: string;
}

export interface Rotation {
  /** New: they wait, but for those that had to sign at once. */
  readonly made: readonly TokenKeyInfo[];
  /** They sign from their `signsAt` on, which is now or soon. */
  readonly signing: readonly TokenKeyInfo[];
  /** They only verify from their `retiredAt` on. */
  readonly retired: readonly TokenKeyInfo[];
  /** They do nothing any more. */
  readonly dropped: readonly TokenKeyInfo[];
}

export const nothingChanged: Rotation = { made: [], signing: [], retired: [], dropped: [] };

/** The use of a signing key. */
export type Scope = Pick<TokenKeyRecord, 'algorithm' | 'audience'>;

export function algorithmOf(
  { defaultAlgorithm, byAudience }: TokenAlgorithms,
  audience: string,
): TokenAlgorithm {
  // An audience may be called "constructor".
  return Object.hasOwn(byAudience, audience) ? (byAudience[audience] ?? defaultAlgorithm) : defaultAlgorithm;
}

export function inUse({ defaultAlgorithm, byAudience }: TokenAlgorithms): ReadonlySet<TokenAlgorithm> {
  return new Set([defaultAlgorithm, ...Object.values(byAudience)]);
}

export function scopeOf(algorithm: TokenAlgorithm, audience: string): Scope {
  return { algorithm, audience: algorithm === 'HS256' ? audience : null };
}

export function isOfScope(key: Scope, { algorithm, audience }: Scope): boolean {
  return key.algorithm === algorithm && key.audience === audience;
}

/** The key that signs for a scope at this moment; undefined for a scope that has none yet. */
export function signerOf(keys: readonly TokenKey[], scope: Scope, now: number): TokenKey | undefined {
  const dated = keys
    .filter(key => isOfScope(key, scope) && key.signsAt !== null && (key.retiredAt ?? Infinity) > now)
    .sort((one, other) => startOf(other) - startOf(one));
  // The first key signs even if the clock was set back to before it was made.
  return dated.find(key => startOf(key) <= now) ?? dated.at(-1);
}

export function startOf({ signsAt, createdAt }: TokenKey): number {
  return signsAt ?? createdAt;
}

/** One scope for all the keys that share it. */
export function scopesOf(keys: readonly TokenKey[]): readonly Scope[] {
  return keys.filter((key, index) => keys.findIndex(each => isOfScope(each, key)) === index);
}

export interface RotationPlan {
  /** The keys that stay, in their new form; the very same list when none changes. */
  readonly keys: readonly TokenKey[];
  readonly wanted: readonly (Scope & Pick<TokenKey, 'signsAt'>)[];
  /** The keys that sign next in the chosen scopes, now or soon, without those that are still to be made. */
  readonly signing: readonly TokenKey[];
  readonly retired: readonly TokenKey[];
  readonly dropped: readonly TokenKey[];
}

export interface RotationRules {
  readonly now: number;
  /** The scopes whose next key is to sign. */
  readonly isChosen: (scope: Scope, signer: TokenKey | undefined) => boolean;
  /** How long a key must have been published before it signs, ms. */
  readonly publishedForMs: number;
  /** No key that was there stays, the waiting one neither: a thief of the file has that too. */
  readonly dropOld: boolean;
  /** True when the last token of a retired key has ended: it is dropped in any case. */
  readonly isOver: (key: TokenKey) => boolean;
  /** False when configuration asks for its like no more: then nothing follows it. */
  readonly isAskedFor: (scope: Scope) => boolean;
}

/** Decides what happens to each key, and which are made so that one waits wherever one signs. */
export function planRotation(keys: readonly TokenKey[], rules: RotationRules): RotationPlan {
  const plans = scopesOf(keys).map(scope =>
    planScope(
      keys.filter(key => isOfScope(key, scope)),
      scope,
      rules,
    ),
  );
  const changed = new Map(plans.flatMap(plan => [...plan.changed]).map(key => [key.kid, key]));
  const dropped = plans.flatMap(plan => plan.dropped);
  const isSame = changed.size + dropped.length === 0;
  return {
    keys: isSame ? keys : keys.filter(key => !dropped.includes(key)).map(key => changed.get(key.kid) ?? key),
    wanted: plans.flatMap(plan => plan.wanted),
    signing: plans.flatMap(plan => plan.signing),
    retired: [...changed.values()].filter(key => key.retiredAt !== null),
    dropped,
  };
}

interface ScopePlan {
  readonly changed: readonly TokenKey[];
  readonly dropped: readonly TokenKey[];
  readonly signing: readonly TokenKey[];
  readonly wanted: RotationPlan['wanted'];
}

function planScope(all: readonly TokenKey[], scope: Scope, rules: RotationRules): ScopePlan {
  const { now, isChosen, publishedForMs, dropOld, isOver, isAskedFor } = rules;
  const { algorithm, audience } = scope;
  const over = all.filter(isOver);
  const keys = all.filter(key => !isOver(key));
  const signer = signerOf(keys, scope, now);
  const waiting = keys
    .filter(key => key !== signer && key.retiredAt === null)
    .sort((one, other) => (one.signsAt ?? Infinity) - (other.signsAt ?? Infinity));
  const want = (...starts: (number | null)[]): RotationPlan['wanted'] =>
    starts.map(signsAt => ({ algorithm, audience, signsAt }));
  const nextToWaitFor = (others: readonly TokenKey[]): RotationPlan['wanted'] =>
    others.some(key => key.signsAt === null) ? [] : want(null);
  const nothing = { changed: [], dropped: over, signing: [], wanted: [] };

  if (!isChosen(scope, signer)) return { ...nothing, wanted: signer ? nextToWaitFor(waiting) : [] };
  if (dropOld)
    return { ...nothing, dropped: all, wanted: signer && isAskedFor(scope) ? want(null, now) : [] };
  if (!signer) return nothing;
  if (!isAskedFor(scope))
    return { ...nothing, changed: [{ ...signer, retiredAt: now }], dropped: [...over, ...waiting] };
  const [successor, ...others] = waiting;
  const start = successor ? Math.max(now, successor.createdAt + publishedForMs) : now + publishedForMs;
  const retired = { ...signer, retiredAt: start };
  if (!successor) return { ...nothing, changed: [retired], wanted: want(null, start) };
  if (successor.signsAt !== null && successor.signsAt <= start) return { ...nothing, signing: [successor] };
  const signing = { ...successor, signsAt: start };
  return { ...nothing, changed: [signing, retired], signing: [signing], wanted: nextToWaitFor(others) };
}

export function publicOf({ kid, algorithm, verifying }: TokenKey): Jwks['keys'] {
  return algorithm === 'HS256' || verifying instanceof Uint8Array
    ? []
    : [toPublicJwk(verifying, kid, algorithm)];
}

/** As it stands among these at this moment. */
export function toInfo(key: TokenKey, keys: readonly TokenKey[], now: number): TokenKeyInfo {
  const { kid, algorithm, audience, createdAt, signsAt, retiredAt } = key;
  const signer = signerOf(keys, key, now);
  const use = signer?.kid === kid ? 'signs' : (retiredAt ?? Infinity) <= now ? 'verifies' : 'next';
  return { kid, algorithm, audience, use, createdAt, signsAt, retiredAt };
}

export function kids(keys: readonly Pick<TokenKey, 'kid'>[]): readonly string[] {
  return keys.map(({ kid }) => kid);
}

/** The outcome of a rotation for which these keys were made. */
export function rotationOf(
  { keys, signing, retired, dropped }: ReturnType<typeof planRotation>,
  made: readonly TokenKey[],
  now: number,
): Rotation {
  const after = [...made, ...keys];
  const infos = (list: readonly TokenKey[]): readonly TokenKeyInfo[] =>
    list.map(key => toInfo(key, after, now));
  return {
    made: infos(made),
    signing: infos([...signing, ...made.filter(key => key.signsAt !== null)]),
    retired: infos(retired),
    dropped: infos(dropped),
  };
}

/** The secrets of one audience: the one that signs, the next one, and those that only verify. */
export function secretsOf(keys: readonly TokenKey[], now: number): readonly AudienceSecret[] {
  const secrets = keys.map(key => {
    const { kid, use } = toInfo(key, keys, now);
    return { kid, use, secret: String(key.jwk.k) };
  });
  return ['signs', 'next', 'verifies'].flatMap(use => secrets.filter(each => each.use === use));
}
