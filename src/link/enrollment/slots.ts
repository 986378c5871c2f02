/**
 * Admits enrollments to a limited number of slots. A challenge costs its receiver nothing, so slots are shared among
 * networks: when all are taken, the network that holds the most loses its oldest slot to one that holds fewer, and to any
 * network once that slot has been idle for longer than an honest node needs. An enrollment that has sent its proof keeps
 * its slot.
 */
import type { Clock } from '../../base/clock.js';
import { networkOf } from '../../base/network.js';

export interface Slot {
  readonly remoteAddress: string;
  /** The proof has arrived; the rest is the link's own work. */
  isProving: boolean;
  /** Another enrollment has taken this slot. */
  isEvicted: boolean;
}

export interface EnrollmentSlotsOptions<S extends Slot> {
  readonly max: number;
  readonly clock: Clock;
  readonly onEvicted: (slot: S) => void;
}

/** A node answers its challenge within milliseconds, one that asks a slow chip for the signature within a second. */
export const idleMs = 2_000;

export class EnrollmentSlots<S extends Slot> implements Iterable<S> {
  readonly #options: EnrollmentSlotsOptions<S>;
  readonly #takenAt = new Map<S, number>();
  readonly #byNetwork = new Map<string, Set<S>>();

  constructor(options: EnrollmentSlotsOptions<S>) {
    this.#options = options;
  }

  [Symbol.iterator](): Iterator<S> {
    return this.#takenAt.keys();
  }

  /** False when all slots are taken and none is evicted for this one. */
  take(slot: S): boolean {
    const { max, clock, onEvicted } = this.#options;
    if (this.#takenAt.size >= max) {
      const evicted = this.#evictFor(slot);
      if (!evicted) return false;
      this.free(evicted);
      evicted.isEvicted = true;
      onEvicted(evicted);
    }
    this.#takenAt.set(slot, clock.elapsed());
    const network = networkOf(slot.remoteAddress);
    const slots = this.#byNetwork.get(network) ?? new Set();
    this.#byNetwork.set(network, slots.add(slot));
    return true;
  }

  /** A second time does nothing. */
  free(slot: S): void {
    this.#takenAt.delete(slot);
    const network = networkOf(slot.remoteAddress);
    const slots = this.#byNetwork.get(network);
    slots?.delete(slot);
    if (slots?.size === 0) this.#byNetwork.delete(network);
  }

  #evictFor(newcomer: S): S | undefined {
    const slots = this.#ofLargestNetwork();
    for (const oldest of slots) {
      if (oldest.isProving) continue;
      const share = (this.#byNetwork.get(networkOf(newcomer.remoteAddress))?.size ?? 0) + 1;
      const isIdle = this.#options.clock.elapsed() - (this.#takenAt.get(oldest) ?? 0) >= idleMs;
      return slots.size > share || isIdle ? oldest : undefined;
    }
    return undefined;
  }

  #ofLargestNetwork(): ReadonlySet<S> {
    let largest: ReadonlySet<S> = new Set();
    for (const slots of this.#byNetwork.values()) if (slots.size > largest.size) largest = slots;
    return largest;
  }
}
