/**
 * Tokens and sessions of a tenant that began before a moment, or between two, count no more: what an admin says when
 * nobody knows how much was stolen. In a tenant that is deleted nothing counts any more. In the store, and in memory, so
 * that asking costs nothing. Never taken back.
 */
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Actor, Audit } from '../../audit/audit.js';
import { listTenants } from '../../../store/keys.js';
import type { Change, Reads, Store } from '../../../store/store.js';
import { isWithin, type TimeSpan } from '../../../tokens/revoked-list.js';
import { cutoffKey, type TenantMark } from '../../tenant-mark.js';
import { decide, isStoreFailure, putRecord, readRecord, type Grounds } from '../records.js';

export interface Cutoffs {
  of(tenant: string): Ended;
  /** The same, read by a decision that something must not have ended. */
  read(reads: Reads, tenant: string): Promise<Ended>;
  /**
   * Ends what began before a moment, since one, or between two; durable when it resolves; with a store that fails it
   * counts all the same, until the link restarts. Gives the time that has ended, which holds what was asked for.
   * REQUEST_INVALID for a moment to come, and for an empty span.
   */
  raise(tenant: string, wanted: Partial<TimeSpan>, by: Actor, grounds?: Grounds): Promise<TimeSpan>;
  /**
   * Marks a tenant as deleted, in one commit with the changes that `others` gives; without any, nothing is committed.
   * Durable when it resolves.
   */
  deleteTenant(
    tenant: string,
    others: (reads: Reads, ended: Ended) => Promise<readonly Change[]>,
  ): Promise<void>;
  /** Reads it from the store again: a commit that failed may have been found there. */
  reload(tenant: string): Promise<void>;
}

/** Its record. One from before there were spans has none. */
interface Cutoff extends TenantMark {
  readonly before: number;
  readonly spans?: readonly TimeSpan[];
}

/** A caller whose clock is ahead by this means now, ms. */
const toleranceMs = 30_000;
const maxSpans = 32;

/**
 * The time of a tenant whose tokens and sessions have ended: all before a moment, and spans after it that do not touch, in order; or, in one that is
 * deleted, everything.
 */
export class Ended {
  readonly before: number;
  readonly spans: readonly TimeSpan[];
  readonly deletedAt: number | undefined;

  constructor(spans: readonly TimeSpan[] = [], deletedAt?: number) {
    const [first, ...others] = joinSpans([{ since: 0, before: 0 }, ...spans]);
    this.before = first?.before ?? 0;
    this.spans = others;
    this.deletedAt = deletedAt;
  }

  static of({ before, spans = [], deletedAt }: Cutoff): Ended {
    return new Ended([{ since: 0, before }, ...spans], deletedAt);
  }

  with({ before, spans = [], deletedAt }: Cutoff): Ended {
    const all = [{ since: 0, before: this.before }, ...this.spans, { since: 0, before }, ...spans];
    return new Ended(all, this.deletedAt ?? deletedAt);
  }

  get record(): Cutoff {
    const { before, spans, deletedAt } = this;
    return { before, ...(spans.length > 0 && { spans }), ...(deletedAt !== undefined && { deletedAt }) };
  }

  get isDeleted(): boolean {
    return this.deletedAt !== undefined;
  }

  /** Whether what began at this moment has ended. */
  covers(beganAt: number): boolean {
    if (this.isDeleted || beganAt < this.before) return true;
    return this.spans.some(span => isWithin(span, beganAt));
  }

  /** All that has ended about one that has. */
  around({ since, before }: TimeSpan): TimeSpan {
    const beside = this.spans.find(each => each.since <= since && before <= each.before);
    return beside ?? { since: 0, before: this.before };
  }

  /** Tokens and sessions that begin from this moment on have not ended, unless the tenant was deleted. */
  get until(): number {
    return this.spans.at(-1)?.before ?? this.before;
  }
}

export interface CutoffOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
}

export async function openCutoffs({ store, audit, clock }: CutoffOptions): Promise<Cutoffs> {
  const known = new Map<string, Ended>();
  for (const tenant of await listTenants(store)) {
    const found = await readRecord<Cutoff>(store, cutoffKey(tenant));
    if (found) known.set(tenant, Ended.of(found));
  }

  const nothing = new Ended();
  const of = (tenant: string): Ended => known.get(tenant) ?? nothing;

  async function read(reads: Reads, tenant: string): Promise<Ended> {
    const found = await readRecord<Cutoff>(reads, cutoffKey(tenant));
    return found ? of(tenant).with(found) : of(tenant);
  }

  return {
    of,
    read,
    async raise(tenant, wanted, by, grounds) {
      const span = parseSpan(wanted, clock.now());
      const committing = decide(store, async reads => {
        await grounds?.(reads);
        const ended = (await read(reads, tenant)).with(asCutoff(span));
        if (ended.spans.length > maxSpans) throw tooManySpans();
        const detail = {
          ...(span.since > 0 && { since: new Date(span.since).toISOString() }),
          before: new Date(span.before).toISOString(),
        };
        const event = audit.auditChange(tenant, { type: 'tokens.ended', subject: tenant, by, detail });
        return { changes: [putRecord(cutoffKey(tenant), ended.record), event], result: undefined };
      });
      const remember = () => known.set(tenant, of(tenant).with(asCutoff(span)));
      await committing.catch((error: unknown) => {
        if (isStoreFailure(error)) remember();
        throw error;
      });
      remember();
      return of(tenant).around(span);
    },
    async deleteTenant(tenant, others) {
      const deleted = await decide(store, async reads => {
        const ended = await read(reads, tenant);
        const more = await others(reads, ended);
        const { record } = ended.with({ before: 0, deletedAt: clock.now() });
        const changes = more.length === 0 ? [] : [putRecord(cutoffKey(tenant), record), ...more];
        return { changes, result: record };
      });
      known.set(tenant, of(tenant).with(deleted));
    },
    async reload(tenant) {
      known.set(tenant, await read(store, tenant));
    },
  };
}

const asCutoff = (span: TimeSpan): Cutoff => ({ before: 0, spans: [span] });

function parseSpan({ since = 0, before }: Partial<TimeSpan>, now: number): TimeSpan {
  if (since === 0 && before === undefined) {
    throw new RollcallError('REQUEST_INVALID', 'expected before, since or both', {
      hint: 'milliseconds since 1970; before alone ends everything from before it',
    });
  }
  if (before !== undefined && !(Number.isSafeInteger(before) && before >= 0 && before <= now + toleranceMs)) {
    throw new RollcallError('REQUEST_INVALID', 'tokens can be ended from before now, not from before later', {
      hint: 'give a moment that has passed, milliseconds since 1970',
    });
  }
  const end = Math.min(before ?? now, now);
  if (Number.isSafeInteger(since) && since >= 0 && (since === 0 || since < end))
    return { since, before: end };
  throw new RollcallError('REQUEST_INVALID', 'the time in which tokens began must start before it ends', {
    hint: 'since is a moment that has passed, and earlier than before; milliseconds since 1970',
  });
}

function tooManySpans(): RollcallError {
  return new RollcallError('REQUEST_INVALID', `at most ${maxSpans} spans of time can be ended`, {
    hint: 'end everything from before a moment: rollcall tokens revoke --before WHEN',
  });
}

/** In order; those that overlap or touch become one. */
function joinSpans(spans: readonly TimeSpan[]): TimeSpan[] {
  const joined: TimeSpan[] = [];
  for (const span of [...spans].sort((one, other) => one.since - other.since)) {
    const last = joined.at(-1);
    if (!last || last.before < span.since) joined.push(span);
    else joined[joined.length - 1] = { since: last.since, before: Math.max(last.before, span.before) };
  }
  return joined;
}
