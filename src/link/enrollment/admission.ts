/**
 * The places for enrollments in flight, and who gives way when all are taken. A challenge costs anyone who asks for it
 * nothing, so places are shared among networks: the network that holds the most loses its oldest place to one that
 * holds fewer, and to anybody once that place has been idle for longer than an honest node thinks. Nobody who has sent
 * a proof gives way.
 */
import type { Clock } from '../../base/clock.js';
import { networkOf } from '../../base/network.js';

export interface Place {
  readonly remoteAddress: string;
  /** The proof has come; what is left is the link's own work. */
  proving: boolean;
  /** Another one got this place. */
  lost: boolean;
}

export interface Places<P extends Place> extends Iterable<P> {
  /** False when all are taken and nobody has to give way. Anyone who has is marked as lost, and told to `onLost`. */
  take(place: P): boolean;
  /** A second time does nothing. */
  free(place: P): void;
}

export interface PlacesOptions<P extends Place> {
  readonly max: number;
  readonly clock: Clock;
  readonly onLost: (place: P) => void;
}

/** A node answers its challenge within milliseconds, one that asks a slow chip for the signature within a second. */
export const idleMs = 2_000;

export function createPlaces<P extends Place>({ max, clock, onLost }: PlacesOptions<P>): Places<P> {
  const takenAt = new Map<P, number>();
  const byNetwork = new Map<string, Set<P>>();

  function free(place: P): void {
    takenAt.delete(place);
    const network = networkOf(place.remoteAddress);
    const crowd = byNetwork.get(network);
    crowd?.delete(place);
    if (crowd?.size === 0) byNetwork.delete(network);
  }

  function largestCrowd(): ReadonlySet<P> {
    let largest: ReadonlySet<P> = new Set();
    for (const crowd of byNetwork.values()) if (crowd.size > largest.size) largest = crowd;
    return largest;
  }

  function findLoser(newcomer: P): P | undefined {
    const crowd = largestCrowd();
    for (const oldest of crowd) {
      if (oldest.proving) continue;
      const share = (byNetwork.get(networkOf(newcomer.remoteAddress))?.size ?? 0) + 1;
      const isIdle = clock.elapsed() - (takenAt.get(oldest) ?? 0) >= idleMs;
      return crowd.size > share || isIdle ? oldest : undefined;
    }
    return undefined;
  }

  return {
    [Symbol.iterator]: () => takenAt.keys(),
    take(place) {
      if (takenAt.size >= max) {
        const loser = findLoser(place);
        if (!loser) return false;
        free(loser);
        loser.lost = true;
        onLost(loser);
      }
      takenAt.set(place, clock.elapsed());
      const network = networkOf(place.remoteAddress);
      const crowd = byNetwork.get(network) ?? new Set();
      byNetwork.set(network, crowd.add(place));
      return true;
    },
    free,
  };
}
