/**
 * A fixed number of slots, given out in the order of the callers. While others wait, the longest holders are asked to give
 * way; they do when they can.
 */

export interface Slot {
  release(): void;
}

class Holder {
  readonly #onWanted: () => void;
  #wasAsked = false;

  constructor(onWanted: () => void) {
    this.#onWanted = onWanted;
  }

  askOnce(): void {
    if (this.#wasAsked) return;
    this.#wasAsked = true;
    this.#onWanted();
  }
}

export class Slots {
  readonly #max: number;
  readonly #holders = new Set<Holder>();
  readonly #queue: (() => void)[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  /** How many callers wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Rejects when the signal is aborted. `onWanted` is called at most once, when another caller waits for the slot. */
  take(onWanted: () => void, signal: AbortSignal): Promise<Slot> {
    if (this.#holders.size < this.#max && this.#queue.length === 0)
      return Promise.resolve(this.#hold(onWanted));
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#queue.splice(this.#queue.indexOf(enter), 1);
        reject(signal.reason as Error);
      };
      const enter = (): void => {
        signal.removeEventListener('abort', leave);
        resolve(this.#hold(onWanted));
      };
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      signal.addEventListener('abort', leave);
      this.#queue.push(enter);
      this.#askToGiveWay();
    });
  }

  /** Does the work with a slot. */
  async use<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const slot = await this.take(() => undefined, signal);
    try {
      return await work();
    } finally {
      slot.release();
    }
  }

  #hold(onWanted: () => void): Slot {
    const holder = new Holder(onWanted);
    this.#holders.add(holder);
    return {
      release: () => {
        if (!this.#holders.delete(holder)) return;
        this.#queue.shift()?.();
        this.#askToGiveWay();
      },
    };
  }

  /** Asks as many holders as callers wait, those that hold longest first. */
  #askToGiveWay(): void {
    for (const holder of [...this.#holders].slice(0, this.#queue.length)) holder.askOnce();
  }
}
