/**
 * The keys that sign tokens and how they change. One key signs for each algorithm, and one secret for each audience
 * that has HS256. Beside each that signs, the next one waits, published: verifiers keep a set of keys for minutes, and
 * would refuse a key that signs in the second in which it is published. The one before verifies, and stays published,
 * until the longest token it signed has ended. What is in memory is what is on the disk: a key signs only after it was
 * written, and after the audit log told of it (key-vault.ts).
 *
 * Whether somebody may rotate is for others.
 */
import { join } from 'node:path';
import { linkParty } from '../../../audit-log/party.js';
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import type { Random } from '../../../base/random.js';
import { makeSecretFolder } from '../../../base/secret-file.js';
import type { TokenAlgorithm } from '../../../tokens/algorithms.js';
import type { VerifyingKey } from '../../../tokens/check-token.js';
import type { Jwks } from '../../../tokens/jwks.js';
import type { Audit } from '../../audit/audit.js';
import type { StopWatching, Store } from '../../../store/store.js';
import { checkAudience } from '../accounts/service-settings.js';
import {
  algorithmOf,
  inUse,
  isOfScope,
  kids,
  nothingChanged,
  planRotation,
  publicOf,
  rotationOf,
  secretsOf,
  scopeOf,
  scopesOf,
  signerOf,
  startOf,
  toInfo,
  type AudienceSecret,
  type Rotation,
  type RotationRules,
  type Scope,
  type TokenAlgorithms,
  type TokenKeyInfo,
} from './key-set.js';
import { makeTokenKey, type TokenKey } from './key.js';
import {
  auditOf,
  openTokenKeyVault,
  type KeyAsker,
  type RotateOptions,
  type TokenKeyVault,
} from './key-vault.js';

export type { KeyAsker, RotateOptions } from './key-vault.js';
export type { AudienceSecret, Rotation, TokenAlgorithms, TokenKeyInfo } from './key-set.js';

export interface SigningKey {
  readonly kid: string;
  readonly algorithm: TokenAlgorithm;
  readonly key: TokenKey['signing'];
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
  readonly maxLifetimeMs: number;
  /** Ms; defaults to 90 days. */
  readonly rotateAfterMs?: number;
  /** The link as an audience: with HS256, its secret never leaves the link. */
  readonly ownAudience?: string;
}

export const tokenKeyFileName = 'token-keys.json';
const dayMs = 86_400_000;
const ninetyDaysMs = 90 * dayMs;
/**
 * From being published to signing, ms. An hour is what the most patient verifier keeps a set of keys for
 * (docs/verifiers.md); a rotation that nobody waits for has time.
 */
const publishedForMs = { byHand: 3_600_000, byItself: dayMs };
const checkEveryMs = 3_600_000;
/** Tokens are taken a little after their end, by clocks that are behind, ms. */
const graceMs = 60_000;

const byLink: KeyAsker = { by: linkParty };

/** Opens the keys of the folder, making what is missing. See readKeyFile for its errors. */
export async function openTokenKeys(options: TokenKeysOptions): Promise<TokenKeys> {
  const { folder, store, audit, random, log } = options;
  await makeSecretFolder(folder);
  const vault = await openTokenKeyVault({ path: join(folder, tokenKeyFileName), store, audit, random, log });
  const keys = new TokenKeys(options, vault);
  await keys.start();
  return keys;
}

export class TokenKeys {
  readonly #options: TokenKeysOptions;
  readonly #vault: TokenKeyVault;
  readonly #rotateAfterMs: number;
  #checking = Promise.resolve();
  #timer: Timer | undefined;

  constructor(options: TokenKeysOptions, vault: TokenKeyVault) {
    this.#options = options;
    this.#vault = vault;
    this.#rotateAfterMs = this.#options.rotateAfterMs ?? ninetyDaysMs;
  }

  /** Makes missing keys, and rotates keys that are due from now on. */
  async start(): Promise<void> {
    await this.#keepUp();
    for (const algorithm of inUse(this.#options.algorithms))
      if (algorithm !== 'HS256') await this.#currentKey({ algorithm, audience: null });
    this.#timer = this.#options.clock.every(checkEveryMs, () => {
      this.#checking = this.#keepUp().catch((error: unknown) =>
        this.#options.log.error({ err: error }, 'token keys could not be rotated'),
      );
    });
  }

  /** 32 bytes that refresh tokens are derived with. */
  get refreshSecret(): Buffer {
    return this.#vault.refreshSecret;
  }

  algorithmFor(audience: string): TokenAlgorithm {
    return algorithmOf(this.#options.algorithms, audience);
  }

  /** Makes the key when there is none yet, so the audience must be one that is known. */
  async signingKey(audience: string): Promise<SigningKey> {
    const { kid, algorithm, signing } = await this.#currentKey(
      scopeOf(this.algorithmFor(audience), audience),
    );
    return { kid, algorithm, key: signing };
  }

  /** The key of that name, if it is for that algorithm and audience and not over. */
  verifyingKey(audience: string, kid: string, algorithm: TokenAlgorithm): VerifyingKey | undefined {
    const key = this.#vault.keys.find(each => each.kid === kid);
    const fits = key?.algorithm === algorithm && (key.audience === null || key.audience === audience);
    return fits && !this.#isOver(key) ? key.verifying : undefined;
  }

  /** Public keys alone. */
  jwks(): Jwks {
    return { keys: this.#vault.keys.filter(key => !this.#isOver(key)).flatMap(publicOf) };
  }

  /** The algorithms of the public keys. */
  publicAlgorithms(): readonly TokenAlgorithm[] {
    return [...inUse(this.#options.algorithms)].filter(each => each !== 'HS256');
  }

  /** REQUEST_INVALID for what can be no audience, for one without secrets, and for the link's own. */
  async secretOf(audience: string): Promise<readonly AudienceSecret[]> {
    checkAudience(audience);
    if (audience === this.#options.ownAudience || this.algorithmFor(audience) !== 'HS256') throw noSecret();
    await this.#currentKey({ algorithm: 'HS256', audience });
    const keys = this.#vault.keys.filter(key => key.audience === audience && !this.#isOver(key));
    return secretsOf(keys, this.#options.clock.now());
  }

  /** Durable when it resolves, with its event. REQUEST_INVALID for what can be no audience. */
  async rotate(wanted: RotateOptions = {}, asker: KeyAsker = byLink): Promise<Rotation> {
    const { audience, now = false } = wanted;
    const rules = { ...wanted, publishedForMs: now ? 0 : publishedForMs.byHand };
    if (audience === undefined) return this.#rotateScopes(() => true, rules, asker);
    checkAudience(audience);
    const scope = scopeOf(this.algorithmFor(audience), audience);
    const rotation = await this.#rotateScopes(each => isOfScope(each, scope), rules, asker);
    if (rotation.signing.length > 0) return rotation;
    // It had none yet.
    const first = [toInfo(await this.#currentKey(scope, asker), this.#vault.keys, this.#options.clock.now())];
    return { ...rotation, made: [...rotation.made, ...first], signing: first };
  }

  /** The newest first. */
  list(): readonly TokenKeyInfo[] {
    return this.#vault.keys.map(key => toInfo(key, this.#vault.keys, this.#options.clock.now()));
  }

  /** Calls after each change, once other keys count. */
  watch(listener: () => void): StopWatching {
    return this.#vault.watch(listener);
  }

  /** Waits for a change that is under way. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#checking;
    // The next start finishes what cannot be finished now.
    await this.#vault.tidy().catch(() => undefined);
  }

  #isOver({ retiredAt }: TokenKey): boolean {
    return (
      retiredAt !== null && retiredAt + this.#options.maxLifetimeMs + graceMs < this.#options.clock.now()
    );
  }

  #isAskedFor({ algorithm, audience }: Scope): boolean {
    return audience === null
      ? inUse(this.#options.algorithms).has(algorithm)
      : this.algorithmFor(audience) === 'HS256';
  }

  #make(wanted: Scope & Pick<TokenKey, 'signsAt'>): Promise<TokenKey> {
    return makeTokenKey({ ...wanted, now: this.#options.clock.now(), random: this.#options.random });
  }

  #currentOf(scope: Scope): TokenKey | undefined {
    return signerOf(this.#vault.keys, scope, this.#options.clock.now());
  }

  /** The key that signs for a scope, made when there is none, with the one that is to follow it. */
  async #currentKey(scope: Scope, asker = byLink): Promise<TokenKey> {
    return (
      this.#currentOf(scope) ??
      (await this.#vault.change(async keys => {
        const now = this.#options.clock.now();
        const current = signerOf(keys, scope, now);
        if (current) return { keys, result: current, ...auditOf(nothingChanged, {}, asker) };
        const [next, first] = [
          await this.#make({ ...scope, signsAt: null }),
          await this.#make({ ...scope, signsAt: now }),
        ];
        const after = [next, first, ...keys];
        const infos = after.slice(0, 2).map(key => toInfo(key, after, now));
        const rotation = { ...nothingChanged, made: infos, signing: infos.slice(1) };
        return { keys: after, result: first, ...auditOf(rotation, {}, asker) };
      }))
    );
  }

  #rotateScopes(
    isChosen: RotationRules['isChosen'],
    wanted: RotateOptions & { readonly publishedForMs: number },
    asker = byLink,
  ): Promise<Rotation> {
    return this.#vault.change(async keys => {
      const { dropOld = false, publishedForMs } = wanted;
      const now = this.#options.clock.now();
      const rules = {
        ...{ now, isChosen, publishedForMs, dropOld },
        isOver: (key: TokenKey) => this.#isOver(key),
        isAskedFor: (scope: Scope) => this.#isAskedFor(scope),
      };
      const plan = planRotation(keys, rules);
      const made = await Promise.all(plan.wanted.map(each => this.#make(each)));
      const after = made.length === 0 ? plan.keys : [...made, ...plan.keys];
      const result = rotationOf(plan, made, now);
      return { keys: after, result, ...auditOf(result, wanted, asker) };
    });
  }

  /** A secret that others verify with has to be handed to them, so that only a person can rotate it. */
  #needsPerson({ audience }: Scope): boolean {
    return audience !== null && audience !== this.#options.ownAudience;
  }

  #isOld(signer: TokenKey): boolean {
    return this.#options.clock.now() - startOf(signer) >= this.#rotateAfterMs;
  }

  async #keepUp(): Promise<void> {
    await this.#vault.tidy();
    const { made, signing, retired, dropped } = await this.#rotateScopes(
      (scope, signer) =>
        !this.#isAskedFor(scope) ||
        (signer !== undefined && this.#isOld(signer) && !this.#needsPerson(scope)),
      { publishedForMs: publishedForMs.byItself },
    );
    if (made.length + retired.length + dropped.length > 0) {
      const changed = { made: kids(made), signing: kids(signing), retired: kids(retired) };
      this.#options.log.info({ ...changed, dropped: kids(dropped) }, 'token keys changed');
    }
    for (const scope of scopesOf(this.#vault.keys).filter(scope => this.#needsPerson(scope))) {
      const signer = this.#currentOf(scope);
      const about = { kid: signer?.kid, audience: scope.audience };
      if (signer && this.#isOld(signer)) this.#options.log.warn(about, 'a token secret is due for rotation');
    }
  }
}

function noSecret(): RollcallError {
  return new RollcallError('REQUEST_INVALID', 'this audience has no secret to hand out', {
    hint: 'it verifies tokens with the public keys at /.well-known/jwks.json',
  });
}
