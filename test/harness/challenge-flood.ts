/** Peers that ask for challenges and answer none, as many at once as they may, again and again. */
import { enrollByHand, helloBytes } from './enroll-by-hand.js';
import type { RawPeer } from './siege.js';
import { createTurns } from '../../src/base/turns.js';
import { newKey } from './test-link.js';

export interface ChallengeFlood {
  /** Challenges the link made for them so far. */
  challenges(): number;
  /** How often they were sent away. */
  refusals(): number;
  /** Resolves once there were so many challenges. */
  reach(challenges: number): Promise<void>;
  stop(): Promise<void>;
}

/** Two streams on each of so many connections; `open` makes one from the given address. */
export function floodWithChallenges(
  connections: number,
  addresses: readonly string[],
  open: (from: string) => Promise<RawPeer>,
): ChallengeFlood {
  const counts = { challenges: 0, refusals: 0 };
  const waiting = new Set<{ readonly at: number; readonly reached: () => void }>();
  let stopped = false;
  const hello = helloBytes(newKey());
  const isStopped = (): boolean => stopped;
  const inTurn = createTurns();

  function count(): void {
    counts.challenges += 1;
    for (const each of waiting) {
      if (counts.challenges < each.at) continue;
      waiting.delete(each);
      each.reached();
    }
  }

  async function ask(peer: RawPeer): Promise<void> {
    const held = enrollByHand(peer);
    held.send(hello);
    await held.challenge();
    count();
    // Held until all others have had their turn, so that as many as can be are in flight.
    await new Promise(resolve => setImmediate(resolve));
    held.cancel();
  }

  async function run(from: string): Promise<void> {
    while (!isStopped()) {
      // One after the other from each address: a thousand handshakes at once would time each other out.
      const peer = await inTurn(from, () => open(from)).catch(() => undefined);
      if (!peer) continue;
      const lane = async (): Promise<void> => {
        while (!isStopped()) await ask(peer);
      };
      await Promise.all([lane(), lane()]).catch(() => (counts.refusals += 1));
      peer.destroy();
    }
  }

  const running = Array.from({ length: connections }, (_, index) =>
    run(addresses[index % addresses.length] ?? '127.0.0.1'),
  );
  return {
    challenges: () => counts.challenges,
    refusals: () => counts.refusals,
    reach: at =>
      counts.challenges >= at
        ? Promise.resolve()
        : new Promise(reached => waiting.add({ at, reached: () => reached() })),
    async stop() {
      stopped = true;
      await Promise.all(running);
    },
  };
}
