/**
 * The shared parts of rows: one fleet, one authority for the other servers, one link whose data folder holds every
 * node that was enrolled so far. Made on first use, so that a single row makes only the parts it needs.
 */
import { join } from 'node:path';
import { openAuthority, type Authority } from '../src/link/authority/authority.js';
import { systemClock } from '../src/base/clock.js';
import { systemRandom } from '../src/base/random.js';
import { startFleet, type Fleet } from './fleet/fleet.js';
import type { Dialect } from './fleet/orders.js';
import { registerAll, startLink, type BenchLink } from './link.js';
import type { Program } from './programs.js';
import { freePort, trustDomain, type Workplace } from './workplace.js';

export interface Stage {
  readonly place: Workplace;
  readonly fleet: Fleet;
  /** Issues for the servers beside. The link has its own. */
  readonly authority: Authority;
  readonly authorityFolder: string;
  readonly authorityFile: string;
  /** The shared link, running; when it is started now, with the caps it has by default or with ones for the bench. */
  link(caps?: 'default'): Promise<BenchLink>;
  stopLink(signal?: NodeJS.Signals): Promise<void>;
  /** Makes sure that so many agents of the crew `link` are enrolled with the shared link. */
  enrolled(count: number): Promise<void>;
  /** Makes sure that a crew has so many agents with certificates of the authority, aimed at a server. */
  certified(crew: string, count: number, dialect: Dialect, port: number): Promise<void>;
}

/** A server that holds sessions: ours, or one beside it. */
export interface Subject {
  readonly dialect: Dialect;
  /** Starts it on a free port, or returns why it is not available. */
  start(stage: Stage): Promise<RunningSubject | { readonly missing: string }>;
}

export interface RunningSubject {
  readonly program: Program;
  readonly port: number;
  stop(): Promise<void>;
}

export async function createStage(place: Workplace): Promise<Stage> {
  const authorityFolder = await place.subfolder('authority');
  const options = { folder: authorityFolder, trustDomain, clock: systemClock, random: systemRandom };
  const authority = await openAuthority({ ...options, certificateLifetimeMs: 86_400_000 });
  const fleet = startFleet(place);
  const ports = { node: await freePort(), control: await freePort() };
  const sizes = new Map<string, number>();
  let running: Promise<BenchLink> | undefined;

  function link(caps?: 'default'): Promise<BenchLink> {
    const plan = { name: 'shared', ports, ...(caps && { more: [] }) };
    running ??= startLink(place, plan).then(async started => {
      await fleet.aim({ crew: 'link', dialect: 'rollcall', port: started.nodePort });
      return started;
    });
    return running;
  }

  async function stopLink(signal?: NodeJS.Signals): Promise<void> {
    const stopping = await running;
    running = undefined;
    await stopping?.stop(signal);
  }
  place.onClose(() => stopLink());

  /** Returns how many are missing, and counts them as present from then on. */
  function missing(crew: string, count: number): { from: number; to: number } {
    const from = sizes.get(crew) ?? 0;
    const to = Math.max(from, count);
    sizes.set(crew, to);
    return { from, to };
  }

  return {
    place,
    fleet,
    authority,
    authorityFolder,
    authorityFile: join(authorityFolder, 'authority.crt'),
    link,
    stopLink,
    async enrolled(count) {
      const { from, to } = missing('link', count);
      if (from === to) return;
      place.progress(`registering and enrolling ${to - from} nodes`);
      const started = await link();
      const keys = await fleet.grow({ crew: 'link', count: to - from, curve: 'P-256' });
      await registerAll(started, keys);
      await fleet.enroll({ crew: 'link', from, to, inFlight: 64 });
    },
    async certified(crew, count, dialect, port) {
      await fleet.aim({ crew, dialect, port });
      const { from, to } = missing(crew, count);
      if (from === to) return;
      await fleet.grow({ crew, count: to - from, curve: 'P-256' });
      await fleet.certify({ crew, from, to, folder: authorityFolder });
    },
  };
}
