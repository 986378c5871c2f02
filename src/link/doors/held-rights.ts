/**
 * A stream or a connection that lasts holds a right that may be taken away meanwhile. Here each is
 * judged again when an account, a role, a token, a session, a cutoff, the deny list or a token key has changed, when its token has
 * run out, and once a minute whatever happened; what a new request would be refused is ended with that refusal.
 *
 * One principal holds a bounded number of streams.
 */
import type { Clock, Timer } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { Shares } from '../../base/shares.js';
import { partyOf, type Principal } from '../access/principal.js';
import { marksOf, type Mark, type WatchRights } from '../access/rights-changes.js';

export interface Holding {
  readonly principal: Principal;
  /** Throws what a new request for the same would be told now. */
  readonly judge: () => Promise<unknown>;
  /** The right is gone. Called once. */
  readonly end: (refusal: unknown) => void;
}

/** Lets go of a holding; a second time does nothing. */
export type LetGo = () => void;

export const maxStreamsPerPrincipal = 64;

/** How often it is looked whether tokens have run out, ms. */
const sweepEveryMs = 5_000;
/** A right that nothing is heard about is judged so often: revocations hold even when a store does not take them, ms. */
const maxAgeMs = 60_000;
/** Judged at once: each takes a few reads of the store. */
const judgedAtOnce = 32;

interface Held extends Holding {
  judgedAt: number;
}

export class HeldRights {
  readonly #clock: Clock;
  readonly #byMark = new Map<Mark, Set<Held>>();
  readonly #all = new Set<Held>();
  readonly #streams = new Shares();
  readonly #waiting = new Set<Held>();
  readonly #stops: readonly (() => void)[];
  #changes = 0;
  #isJudging = false;

  constructor({ watchRights, clock }: { readonly watchRights: WatchRights; readonly clock: Clock }) {
    this.#clock = clock;
    const sweep: Timer = clock.every(sweepEveryMs, () => this.#sweep());
    const stopWatching = watchRights(mark => this.#changed(mark));
    this.#stops = [stopWatching, () => sweep.cancel()];
  }

  /** Grows with every change: read it before a caller is accepted, and give it to `hold` afterwards. */
  get changes(): number {
    return this.#changes;
  }

  /** LINK_BUSY when its principal holds too many streams. What changed since `since` is judged at once. */
  holdStream(holding: Holding, since: number): LetGo {
    const party = partyOf(holding.principal);
    if (this.#streams.of(party) >= maxStreamsPerPrincipal) {
      throw new RollcallError(
        'LINK_BUSY',
        `at most ${maxStreamsPerPrincipal} streams at once for one caller`,
        {
          hint: 'end some of them, or wait for one to end',
        },
      );
    }
    this.#streams.take(party);
    const letGo = this.hold(holding, since);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      letGo();
      this.#streams.giveBack(party);
    };
  }

  hold(holding: Holding, since: number): LetGo {
    const held: Held = { ...holding, judgedAt: this.#clock.elapsed() };
    this.#all.add(held);
    for (const mark of marksOf(holding.principal)) {
      const marked = this.#byMark.get(mark) ?? new Set();
      this.#byMark.set(mark, marked.add(held));
    }
    if (since !== this.#changes) this.#judgeSoon([held]);
    return () => this.#letGo(held);
  }

  close(): void {
    for (const stop of this.#stops) stop();
  }

  #letGo(held: Held): void {
    if (!this.#all.delete(held)) return;
    this.#waiting.delete(held);
    for (const mark of marksOf(held.principal)) {
      const marked = this.#byMark.get(mark);
      marked?.delete(held);
      if (marked?.size === 0) this.#byMark.delete(mark);
    }
  }

  #changed(mark: Mark): void {
    this.#changes += 1;
    this.#judgeSoon(this.#byMark.get(mark) ?? []);
  }

  #sweep(): void {
    const oldest = this.#clock.elapsed() - maxAgeMs;
    const now = this.#clock.now();
    this.#judgeSoon(
      [...this.#all].filter(each => each.judgedAt <= oldest || each.principal.expiresAt <= now),
    );
  }

  #judgeSoon(some: Iterable<Held>): void {
    for (const held of some) this.#waiting.add(held);
    if (!this.#isJudging && this.#waiting.size > 0) void this.#judgeAll();
  }

  async #judgeAll(): Promise<void> {
    this.#isJudging = true;
    while (this.#waiting.size > 0) {
      const some = [...this.#waiting].slice(0, judgedAtOnce);
      for (const held of some) this.#waiting.delete(held);
      await Promise.all(some.map(held => this.#judge(held)));
    }
    this.#isJudging = false;
  }

  async #judge(held: Held): Promise<void> {
    held.judgedAt = this.#clock.elapsed();
    try {
      await held.judge();
    } catch (refusal) {
      if (!this.#all.has(held)) return;
      this.#letGo(held);
      held.end(refusal);
    }
  }
}
