/**
 * The keys that sign tokens and how they change. One key signs for each algorithm, and one secret for each audience
 * that has HS256. A new key signs at once; the one before it verifies, and stays published, until the longest token it
 * signed has ended. What is in memory is what is on the disk: a key signs only after it was written, and after the audit
 * log told of it (token-key-vault.ts).
 *
 * Whether somebody may rotate is for others.
 */
import { join } from 'node:path';
import { linkParty } from '../../audit-log/party.js';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { makeSecretFolder } from '../../base/secret-file.js';
import type { TokenAlgorithm } from '../../tokens/algorithms.js';
import type { VerifyingKey } from '../../tokens/check-token.js';
import type { Jwks } from '../../tokens/jwks.js';
import type { Actor, Audit } from '../audit/audit.js';
import type { StopWatching, Store } from '../../store/store.js';
import type { Grounds } from './records.js';
import { checkAudience } from './service-settings.js';
import {
  algorithmOf,
  inUse,
  isCurrentOf,
  isOfScope,
  kids,
  planRotation,
  publicOf,
  scopeOf,
  toInfo,
  type Scope,
  type TokenAlgorithms,
  type TokenKeyInfo,
} from './token-key-set.js';
import { makeTokenKey, type TokenKey } from './token-key.js';
import { openTokenKeyVault, type KeyChange } from './token-key-vault.js';

export type { TokenAlgorithms, TokenKeyInfo } from './token-key-set.js';

export interface SigningKey {
  readonly kid: string;
  readonly algorithm: TokenAlgorithm;
  readonly key: TokenKey['signing'];
}

/** For the operator to hand to the audience; the newest, which signs, first. */
export interface AudienceSecret {
  readonly kid: string;
  /** Base64url. */
  readonly secret: string;
}

export interface Rotation {
  /** They sign now. */
  readonly made: readonly TokenKeyInfo[];
  /** They verify still. */
  readonly retired: readonly TokenKeyInfo[];
  /** They do nothing any more. */
  readonly dropped: readonly TokenKeyInfo[];
}

export interface RotateOptions {
  /** Only the key that signs for it; undefined for all. A key of ES256 or RS256 is shared with other audiences. */
  readonly audience?: string | undefined;
  /** The keys before are not trusted any more, from now on: every token signed with them is refused. */
  readonly dropOld?: boolean | undefined;
}

/** Who has the keys changed. */
export interface KeyAsker {
  readonly by: Actor;
  readonly grounds?: Grounds;
}

export interface TokenKeys {
  /** 32 bytes that refresh tokens are derived with. */
  readonly refreshSecret: Buffer;
  algorithmFor(audience: string): TokenAlgorithm;
  /** Makes the key when there is none yet, so the audience must be one that is known. */
  signingKey(audience: string): Promise<SigningKey>;
  /** The key of that name, if it is for that algorithm and audience and not over. */
  verifyingKey(audience: string, kid: string, algorithm: TokenAlgorithm): VerifyingKey | undefined;
  /** Public keys alone. */
  jwks(): Jwks;
  /** REQUEST_INVALID for what can be no audience, for one without secrets, and for the link's own. */
  secretOf(audience: string): Promise<readonly AudienceSecret[]>;
  /** Durable when it resolves, with its event. REQUEST_INVALID for what can be no audience. */
  rotate(options?: RotateOptions, asker?: KeyAsker): Promise<Rotation>;
  /** The newest first. */
  list(): readonly TokenKeyInfo[];
  /** Calls after each change, once other keys count. */
  watch(listener: () => void): StopWatching;
  /** Waits for a change that is under way. */
  close(): Promise<void>;
}

export interface TokenKeysOptions {
  /** The data folder. */
  readonly folder: string;
  readonly store: Store;
  readonly audit: Audit;
  readonly algorithms: TokenAlgorithms;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** How long a retired key verifies: the life of the longest token, ms. */
  readonly longestLifetimeMs: number;
  /** Ms; defaults to 90 days. */
  readonly rotateAfterMs?: number;
  /** The link as an audience: with HS256, its secret never leaves the link. */
  readonly ownAudience?: string;
}

export const tokenKeyFileName = 'token-keys.json';
const ninetyDaysMs = 90 * 86_400_000;
const checkEveryMs = 3_600_000;
/** Tokens are taken a little after their end, by clocks that are behind, ms. */
const graceMs = 60_000;

const byLink: KeyAsker = { by: linkParty };

/** Opens the keys of the folder, making what is missing. See readKeyFile for its errors. */
export async function openTokenKeys(options: TokenKeysOptions): Promise<TokenKeys> {
  const { folder, store, audit, algorithms, clock, random, log, longestLifetimeMs, ownAudience } = options;
  const rotateAfterMs = options.rotateAfterMs ?? ninetyDaysMs;
  await makeSecretFolder(folder);
  const vault = await openTokenKeyVault({ path: join(folder, tokenKeyFileName), store, audit, random, log });

  const algorithmFor = (audience: string): TokenAlgorithm => algorithmOf(algorithms, audience);
  const isOver = ({ retiredAt }: TokenKey): boolean =>
    retiredAt !== null && retiredAt + longestLifetimeMs + graceMs < clock.now();
  const isAskedFor = ({ algorithm, audience }: Scope): boolean =>
    audience === null ? inUse(algorithms).has(algorithm) : algorithmFor(audience) === 'HS256';
  const make = ({ algorithm, audience }: Scope): Promise<TokenKey> =>
    makeTokenKey({ algorithm, audience, now: clock.now(), random });

  /** The key that signs for a scope, made when there is none. */
  async function currentKey(scope: Scope, asker = byLink): Promise<TokenKey> {
    const wanted = isCurrentOf(scope);
    return (
      vault.keys.find(wanted) ??
      (await vault.change(async keys => {
        const current = keys.find(wanted);
        const made = current ?? (await make(scope));
        const rotation = { made: [toInfo(made)], retired: [], dropped: [] };
        return { keys: current ? keys : [made, ...keys], result: made, ...toldOf(rotation, {}, asker) };
      }))
    );
  }

  function rotateScopes(
    chosen: (key: TokenKey) => boolean,
    wanted: RotateOptions = {},
    asker = byLink,
  ): Promise<Rotation> {
    return vault.change(async keys => {
      const { dropOld = false } = wanted;
      const plan = planRotation(keys, { chosen, dropOld, isOver, isAskedFor });
      const made = await Promise.all(plan.followed.map(make));
      const retired = plan.retiring.map(key => ({ ...key, retiredAt: clock.now() }));
      const { dropped, rest } = plan;
      const isSame = made.length + retired.length + dropped.length === 0;
      const result = { made: made.map(toInfo), retired: retired.map(toInfo), dropped: dropped.map(toInfo) };
      const after = isSame ? keys : [...made, ...retired, ...rest];
      return { keys: after, result, ...toldOf(result, wanted, asker) };
    });
  }

  const age = ({ createdAt }: TokenKey): number => clock.now() - createdAt;
  /** A secret that others verify with has to be handed to them, so that only a person can rotate it. */
  const needsPerson = ({ audience }: Scope): boolean => audience !== null && audience !== ownAudience;

  async function keepUp(): Promise<void> {
    const isDue = (key: TokenKey): boolean => age(key) >= rotateAfterMs && !needsPerson(key);
    await vault.tidy();
    const { made, retired, dropped } = await rotateScopes(key => isDue(key) || !isAskedFor(key));
    if (made.length + retired.length + dropped.length > 0)
      log.info({ made: kids(made), retired: kids(retired), dropped: kids(dropped) }, 'token keys changed');
    const waiting = vault.keys.filter(
      key => key.retiredAt === null && needsPerson(key) && age(key) >= rotateAfterMs,
    );
    for (const { kid, audience } of waiting)
      log.warn({ kid, audience }, 'a token secret is due for rotation');
  }

  await keepUp();
  for (const algorithm of inUse(algorithms))
    if (algorithm !== 'HS256') await currentKey({ algorithm, audience: null });
  let checking = Promise.resolve();
  const timer = clock.every(checkEveryMs, () => {
    checking = keepUp().catch((error: unknown) =>
      log.error({ err: error }, 'token keys could not be rotated'),
    );
  });

  return {
    refreshSecret: vault.refreshSecret,
    algorithmFor,
    async signingKey(audience) {
      const { kid, algorithm, signing } = await currentKey(scopeOf(algorithmFor(audience), audience));
      return { kid, algorithm, key: signing };
    },
    verifyingKey(audience, kid, algorithm) {
      const key = vault.keys.find(each => each.kid === kid);
      const fits = key?.algorithm === algorithm && (key.audience === null || key.audience === audience);
      return fits && !isOver(key) ? key.verifying : undefined;
    },
    jwks: () => ({ keys: vault.keys.filter(key => !isOver(key)).flatMap(publicOf) }),
    async secretOf(audience) {
      checkAudience(audience);
      if (audience === ownAudience || algorithmFor(audience) !== 'HS256') throw noSecret();
      await currentKey({ algorithm: 'HS256', audience });
      return vault.keys
        .filter(key => key.audience === audience && !isOver(key))
        .map(({ kid, jwk }) => ({ kid, secret: String(jwk.k) }));
    },
    async rotate(wanted = {}, asker = byLink) {
      const { audience } = wanted;
      if (audience === undefined) return rotateScopes(() => true, wanted, asker);
      checkAudience(audience);
      const scope = scopeOf(algorithmFor(audience), audience);
      const rotation = await rotateScopes(key => isOfScope(key, scope), wanted, asker);
      if (rotation.made.length > 0) return rotation;
      // It had none yet.
      return { ...rotation, made: [toInfo(await currentKey(scope, asker))] };
    },
    list: () => vault.keys.map(toInfo),
    watch: listener => vault.watch(listener),
    async close() {
      timer.cancel();
      await checking;
      // What cannot be finished now, the next start finishes.
      await vault.tidy().catch(() => undefined);
    },
  };
}

/** What the audit log says of a change: by their names which keys came, stay to verify, and went. */
function toldOf(
  { made, retired, dropped }: Rotation,
  { audience = '', dropOld = false }: RotateOptions,
  { by, grounds }: KeyAsker,
): Pick<KeyChange<unknown>, 'event' | 'grounds'> {
  const names = (keys: readonly TokenKeyInfo[]): string => kids(keys).join(' ');
  const changed = { made: names(made), retired: names(retired), dropped: names(dropped) };
  const detail = { audience, dropOld, ...changed };
  return { event: { type: 'keys.rotated', by, detail }, grounds };
}

function noSecret(): RollcallError {
  return new RollcallError('REQUEST_INVALID', 'this audience has no secret to hand out', {
    hint: 'it verifies tokens with the public keys at /.well-known/jwks.json',
  });
}
