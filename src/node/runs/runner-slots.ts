/**
 * Places for runners: so many at once, the others in the order they came. Who holds one while others wait is asked to give
 * way; it does when it can.
 */

export interface Place {
  release(): void;
}

export interface Places {
  /** Rejects when the signal says so. `onWanted`: somebody waits for it, called once at most. */
  take(onWanted: () => void, signal: AbortSignal): Promise<Place>;
  /** How many wait. */
  readonly waiting: number;
}

interface Holder {
  readonly onWanted: () => void;
  wasAsked: boolean;
}

export function createPlaces(most: number): Places {
  const holders = new Set<Holder>();
  const queue: (() => void)[] = [];

  function hold(onWanted: () => void): Place {
    const holder: Holder = { onWanted, wasAsked: false };
    holders.add(holder);
    return {
      release() {
        if (!holders.delete(holder)) return;
        queue.shift()?.();
        askToGiveWay();
      },
    };
  }

  /** As many as wait, those that have been there longest first; nobody twice. */
  function askToGiveWay(): void {
    for (const holder of [...holders].slice(0, queue.length)) {
      if (holder.wasAsked) continue;
      holder.wasAsked = true;
      holder.onWanted();
    }
  }

  return {
    take(onWanted, signal) {
      if (holders.size < most && queue.length === 0) return Promise.resolve(hold(onWanted));
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          queue.splice(queue.indexOf(enter), 1);
          reject(signal.reason as Error);
        };
        const enter = (): void => {
          signal.removeEventListener('abort', leave);
          resolve(hold(onWanted));
        };
        if (signal.aborted) {
          reject(signal.reason as Error);
          return;
        }
        signal.addEventListener('abort', leave);
        queue.push(enter);
        askToGiveWay();
      });
    },
    get waiting() {
      return queue.length;
    },
  };
}
