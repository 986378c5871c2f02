/**
 * Refresh tokens (RFC 9700 §4.14.2): opaque, rotating, hashed at rest. All that descend from one login are a family; the
 * family is what lives and dies. Each token's successor is derived from it with a secret of the link, so that a caller
 * who lost the answer and asks again within seconds gets the very same one, without its being stored. Any other second
 * use means that two hold the token: the family ends.
 */
import { linkParty } from '../../../audit-log/party.js';
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import type { Random } from '../../../base/random.js';
import type { Actor, Audit, AuditEvent } from '../../audit/audit.js';
import type { AuditEventType } from '../../audit/event-types.js';
import { listTenants, tenantPrefix } from '../../../store/keys.js';
import { pagesBelow } from '../../../store/pages.js';
import type { Change, Key, Reads, Store } from '../../../store/store.js';
import { createBoundedMap } from '../bounded-map.js';
import { denial } from './deny-list.js';
import { isOver, judgeUse, type Family } from './refresh-family.js';
import type { FindParty } from '../accounts/holders.js';
import { decide, decodeRecord, putRecord, readRecord, type Decision } from '../records.js';
import { createRefreshTokens, type RefreshTokens } from './refresh-tokens.js';
import { sweepEvery, sweepPageSize } from '../sweep.js';
import { hashSecret, isSameText } from './secret-text.js';
import { accessLifetimeMs } from './lifetimes.js';

export type Refreshed<T = undefined> =
  | {
      readonly outcome: 'rotated' | 'repeated';
      readonly family: Family;
      readonly token: string;
      /** The result of `use`. */
      readonly used: T;
    }
  /** Used again too late: the family has just ended. */
  | { readonly outcome: 'reused'; readonly family: Family }
  | { readonly outcome: 'unknown' };

export interface NewFamily {
  readonly tenant: string;
  readonly holder: string;
  readonly audience: string;
  readonly client?: string | undefined;
  readonly scope?: string | undefined;
  /** Milliseconds since 1970; defaults to now. */
  readonly createdAt?: number | undefined;
}

/** The origin of a request. */
type Place = Pick<Actor, 'address' | 'requestId'>;

type Use<T> = (family: Family, reads: Reads) => T | Promise<T>;

const sweepEveryMs = 3_600_000;
/** Rotations whose answer may still be on its way; one forgotten too early costs somebody a login. */
const answersKept = 10_000;

const keyOf = (tenant: string, id: string): Key => `${tenantPrefix(tenant)}family/${id}`;
/** The key of a family's tenant: a refresh token names only its family. */
const homeKeyOf = (id: string): Key => `access/family/${id}`;

export interface FamiliesOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly findParty: FindParty;
  /** 32 random bytes that only the link has. */
  readonly secret: Buffer;
}

export class Families {
  readonly #options: FamiliesOptions;
  readonly #tokens: RefreshTokens;
  /**
   * The last rotation of each family, by the hash of the token that was exchanged, and when it could be answered:
   * Infinity while that is open. A disk that is slow or fails must not make a thief of a caller who could not know that
   * the rotation had been written. Of any other token of the family it says nothing.
   */
  readonly #rotations = createBoundedMap<{ readonly of: string; readonly answeredAt: number }>(answersKept);
  readonly #stopSweeping: () => void;

  constructor(options: FamiliesOptions) {
    const { clock, log, random, secret } = options;
    this.#options = options;
    this.#tokens = createRefreshTokens(secret, random);
    const failure = 'could not forget sessions that are over';
    this.#stopSweeping = sweepEvery({ clock, log, everyMs: sweepEveryMs, failure }, () => this.#forgetOver());
  }

  /** The changes that begin a family, for the commit of whatever it belongs to, and its first token. */
  begin(wanted: NewFamily): {
    readonly family: Family;
    readonly token: string;
    readonly changes: readonly Change[];
  } {
    const id = this.#options.random(16).toString('hex');
    const token = this.#tokens.first(id);
    const now = this.#options.clock.now();
    const times = { createdAt: wanted.createdAt ?? now, usedAt: now, rotations: 0 };
    const family: Family = { ...wanted, ...times, id, current: hashSecret(token) };
    const changes = [
      putRecord(keyOf(family.tenant, id), family),
      putRecord(homeKeyOf(id), { tenant: family.tenant }),
    ];
    return { family, token, changes };
  }

  /**
   * Exchanges a token for its successor, durable when it resolves. `origin` is where it came from. `use` makes what is
   * handed out beside it, before the commit: what it throws is thrown before anything has changed, and what it reads
   * must still be so.
   */
  refresh(token: string, origin?: Place): Promise<Refreshed>;
  refresh<T>(token: string, origin: Place, use: Use<T>): Promise<Refreshed<T>>;
  refresh(
    token: string,
    origin: Place = {},
    use: Use<unknown> = () => undefined,
  ): Promise<Refreshed<unknown>> {
    return this.#refresh(token, origin, use);
  }

  async find(tenant: string, id: string, reads: Reads = this.#options.store): Promise<Family | undefined> {
    const family = await readRecord<Family>(reads, keyOf(tenant, id));
    return family && !isOver(family, this.#options.clock.now()) ? family : undefined;
  }

  /** Its holder ends a family by one of its tokens, the current or the one before; gives it if there was one. */
  endByToken(token: string, origin: Place): Promise<Family | undefined> {
    return decide<Family | undefined>(this.#options.store, async reads => {
      const family = await this.#findByToken(token, reads);
      const presented = hashSecret(token);
      const isOfIt =
        family && [family.current, family.previous ?? ''].some(each => isSameText(presented, each));
      if (!family || !isOfIt) return { changes: [], result: undefined };
      const by = await this.#holderAt(family, origin, reads);
      return { changes: this.#ended(family, 'session.ended', by), result: family };
    });
  }

  /** Its holder ends it by an access token of it. */
  async end(tenant: string, id: string, origin: Place): Promise<void> {
    await decide(this.#options.store, async reads => {
      const family = await readRecord<Family>(reads, keyOf(tenant, id));
      if (!family) return { changes: [], result: undefined };
      const by = await this.#holderAt(family, origin, reads);
      return { changes: this.#ended(family, 'session.ended', by), result: undefined };
    });
  }

  close(): void {
    this.#stopSweeping();
  }

  #answeredAt(family: Family, token: string): number {
    const last = this.#rotations.get(family.id);
    return last?.of === hashSecret(token) ? last.answeredAt : 0;
  }

  /** Only for a token that the link made at some time: what others make up cannot end a family. */
  async #findByToken(token: string, reads: Reads): Promise<Family | undefined> {
    const id = this.#tokens.familyOf(token);
    const home = id === undefined ? undefined : await readRecord<{ tenant: string }>(reads, homeKeyOf(id));
    return home && id !== undefined ? readRecord<Family>(reads, keyOf(home.tenant, id)) : undefined;
  }

  #ended(family: Family, type: AuditEventType, by: Actor): Change[] {
    return [
      { type: 'delete', key: keyOf(family.tenant, family.id) },
      { type: 'delete', key: homeKeyOf(family.id) },
      // Its access tokens have ended here at once; for those who verify them elsewhere it is on the list.
      denial({ id: family.id, endsAt: this.#options.clock.now() + accessLifetimeMs, tenant: family.tenant }),
      this.#options.audit.auditChange(family.tenant, {
        type,
        subject: family.holder,
        by,
        detail: { session: family.id },
      }),
    ];
  }

  /** The holder, where they are now: only they have a token of the family. */
  async #holderAt({ tenant, holder }: Family, origin: Place, reads: Reads): Promise<Actor> {
    return { ...(await this.#options.findParty(tenant, holder, reads)), ...origin };
  }

  #rotate<T>(family: Family, token: string, by: Actor, used: T): Decision<Refreshed<T>> {
    const successor = this.#tokens.successorOf(family.id, token);
    const rotated: Family = {
      ...family,
      usedAt: this.#options.clock.now(),
      rotations: family.rotations + 1,
      previous: hashSecret(token),
      current: hashSecret(successor),
    };
    const event: AuditEvent = {
      type: 'token.refreshed',
      subject: family.holder,
      by,
      detail: { session: family.id, rotation: rotated.rotations },
    };
    this.#rotations.set(family.id, { of: hashSecret(token), answeredAt: Infinity });
    return {
      changes: [
        putRecord(keyOf(family.tenant, family.id), rotated),
        this.#options.audit.auditChange(family.tenant, event),
      ],
      result: { outcome: 'rotated', family: rotated, token: successor, used },
    };
  }

  async #decideUse<T>(
    family: Family,
    { token, askedAt, origin }: { token: string; askedAt: number; origin: Place },
    use: Use<T>,
    reads: Reads,
  ): Promise<Decision<Refreshed<T>>> {
    const presented = { token, askedAt, answeredAt: this.#answeredAt(family, token) };
    const kind = judgeUse(family, presented, this.#options.clock.now());
    if (kind === 'current' || kind === 'retry') {
      const used = await use(family, reads);
      if (kind === 'current')
        return this.#rotate(family, token, await this.#holderAt(family, origin, reads), used);
      const successor = this.#tokens.successorOf(family.id, token);
      return { changes: [], result: { outcome: 'repeated', family, token: successor, used } };
    }
    return kind === 'over'
      ? {
          changes: this.#ended(family, 'session.expired', { ...linkParty, ...origin }),
          result: { outcome: 'unknown' },
        }
      : {
          changes: this.#ended(family, 'token.refresh-reused', { ...linkParty, ...origin }),
          result: { outcome: 'reused', family },
        };
  }

  async #refresh<T>(token: string, origin: Place, use: Use<T>): Promise<Refreshed<T>> {
    const askedAt = this.#options.clock.now();
    const refreshed = await decide<Refreshed<T>>(this.#options.store, async reads => {
      const family = await this.#findByToken(token, reads);
      if (!family) return { changes: [], result: { outcome: 'unknown' } };
      return this.#decideUse(family, { token, askedAt, origin }, use, reads);
    });
    // Once, or one retry after the other would keep the old token good.
    if ('token' in refreshed && this.#answeredAt(refreshed.family, token) === Infinity)
      this.#rotations.set(refreshed.family.id, {
        of: hashSecret(token),
        answeredAt: this.#options.clock.now(),
      });
    return refreshed;
  }

  /** Most families that are over are never used again, so they are deleted at intervals. */
  async #forgetOver(): Promise<void> {
    for (const tenant of await listTenants(this.#options.store)) {
      for await (const page of pagesBelow(this.#options.store, keyOf(tenant, ''), sweepPageSize))
        for (const { key, value } of page)
          if (isOver(decodeRecord<Family>(value), this.#options.clock.now())) await this.#forget(key);
    }
  }

  #forget(key: Key): Promise<void> {
    return decide(this.#options.store, async reads => {
      const family = await readRecord<Family>(reads, key);
      const isDue = family && isOver(family, this.#options.clock.now());
      return { changes: isDue ? this.#ended(family, 'session.expired', linkParty) : [], result: undefined };
    });
  }
}

/** The one error for every refused refresh token, so that it does not disclose the reason. */
export function refreshRefused(): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'the refresh token is not valid', {
    hint: 'log in again: rollcall login',
  });
}
