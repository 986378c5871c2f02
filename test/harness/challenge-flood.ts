/** Peers that ask for challenges and answer none: as many as may be are held at once, and the oldest makes way for a new one. */
import { createKeyedQueue } from '../../src/base/keyed-queue.js';
import { helloBytes, type RawFrames } from './raw-frames.js';
import { newKey } from './test-link.js';

export interface FloodOptions {
  readonly connections: number;
  /** Connections with a challenge held at once; fewer than all. */
  readonly held: number;
  /** Source addresses of the flood. */
  readonly addresses: readonly string[];
  readonly open: (from: string) => Promise<RawFrames>;
}

export interface ChallengeFlood {
  /** Challenges the link made for them so far, and how often it sent them away. */
  counts(): { readonly challenges: number; readonly refusals: number };
  /** Resolves once as many are held as were asked for. */
  readonly full: Promise<void>;
  /** Resolves once there were so many challenges. */
  reach(challenges: number): Promise<void>;
  stop(): Promise<void>;
}

export function floodWithChallenges({ connections, held, addresses, open }: FloodOptions): ChallengeFlood {
  const hello = helloBytes(newKey());
  const inTurn = createKeyedQueue();
  const holding = new Set<RawFrames>();
  const waiting = new Set<{ readonly at: number; readonly reached: () => void }>();
  let fill = (): void => undefined;
  const full = new Promise<void>(resolve => (fill = resolve));
  let challenges = 0;
  let refusals = 0;
  let stopped = false;
  const isStopped = (): boolean => stopped;

  function count(): void {
    challenges += 1;
    for (const each of waiting) {
      if (challenges < each.at) continue;
      waiting.delete(each);
      each.reached();
    }
  }

  function hold(peer: RawFrames): void {
    holding.add(peer);
    if (holding.size < held) return;
    fill();
    const [oldest] = holding;
    oldest?.destroy();
  }

  /** Gives whether the link sent it away. */
  async function ask(peer: RawFrames): Promise<boolean> {
    peer.send(hello);
    await peer.challenge();
    count();
    hold(peer);
    const { code } = await peer.ended;
    holding.delete(peer);
    return code !== '';
  }

  async function run(from: string): Promise<void> {
    while (!isStopped()) {
      // One after the other from each address: a thousand handshakes at once would time each other out.
      const peer = await inTurn(from, () => open(from)).catch(() => undefined);
      if (!peer) continue;
      if (await ask(peer).catch(() => false)) refusals += 1;
      peer.destroy();
    }
  }

  const running = Array.from({ length: connections }, (_, index) =>
    run(addresses[index % addresses.length] ?? '127.0.0.1'),
  );
  return {
    counts: () => ({ challenges, refusals }),
    full,
    reach: at =>
      challenges >= at
        ? Promise.resolve()
        : new Promise(reached => waiting.add({ at, reached: () => reached() })),
    async stop() {
      stopped = true;
      for (const each of holding) each.destroy();
      await Promise.all(running);
    },
  };
}
