/** The process of a fleet: takes orders over its channel and answers each once it is done. */
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import { openAuthority } from '../../src/link/authority/authority.js';
import { pauseAfter } from '../../src/node/backoff.js';
import { now } from '../usage.js';
import { trustDomain } from '../workplace.js';
import { makeAgent, prepareContext, type LightAgent } from './agent.js';
import { takeDelivered } from './deliveries.js';
import { enrollAgent, makeSessionKey } from './enroll.js';
import type { Dialect, Order, Orders, Part, Timing } from './orders.js';
import { openings } from './sessions.js';

interface Crew {
  readonly agents: LightAgent[];
  dialect: Dialect;
  port: number;
}

const crews = new Map<string, Crew>();
/** Called whenever an agent has come or gone. */
const watchers = new Set<() => void>();
let telling: NodeJS.Timeout | undefined;

/** Once for all that comes together: each agent keeps its own time. */
function changed(): void {
  telling ??= setTimeout(() => {
    telling = undefined;
    watchers.forEach(watcher => watcher());
  }, 10);
}

function crewOf(name: string): Crew {
  const crew = crews.get(name);
  if (crew) return crew;
  throw new Error(`there is no crew ${name}`);
}

function agentsOf({ crew, from, to }: Part): LightAgent[] {
  return crewOf(crew).agents.slice(from, to);
}

/** Work on every one, so many at once; the first failure ends it. */
async function each(part: Part, work: (agent: LightAgent) => Promise<void>): Promise<Timing> {
  const eachMs: number[] = [];
  const startedAt = now();
  const waiting = agentsOf(part).values();
  const worker = async (): Promise<void> => {
    for (const agent of waiting) {
      const begunAt = now();
      await work(agent);
      eachMs.push(now() - begunAt);
    }
  };
  await Promise.all(Array.from({ length: part.inFlight ?? 32 }, worker));
  return { wallMs: now() - startedAt, eachMs };
}

async function comeOnline(agent: LightAgent, crew: Crew): Promise<void> {
  const onGone = (): void => {
    agent.goneAt = now();
    agent.socket?.destroy();
    changed();
    if (agent.persists) returnLater(agent, crew, 1);
  };
  agent.socket = await openings[crew.dialect](agent, crew.port, onGone);
  agent.goneAt = undefined;
  agent.onlineAt = now();
  changed();
}

/** As the agent does: waits by chance, longer after each failure. */
function returnLater(agent: LightAgent, crew: Crew, failures: number): void {
  const waitMs = pauseAfter({ code: 'LINK_UNREACHABLE', failures, refusals: 0 }, systemRandom);
  setTimeout(() => {
    comeOnline(agent, crew).catch(() => {
      if (agent.persists) returnLater(agent, crew, failures + 1);
    });
  }, waitMs);
}

function until<T>(look: () => T | undefined): Promise<T> {
  return new Promise(resolve => {
    const watcher = (): void => {
      const found = look();
      if (found === undefined) return;
      watchers.delete(watcher);
      resolve(found);
    };
    watchers.add(watcher);
    watcher();
  });
}

type Deeds = { readonly [Name in keyof Orders]: (...words: Parameters<Orders[Name]>) => unknown };

const deeds: Deeds = {
  aim({ crew, dialect, port }) {
    const known = crews.get(crew);
    if (known) Object.assign(known, { dialect, port });
    else crews.set(crew, { agents: [], dialect, port });
  },
  grow({ crew, count, curve }) {
    const made = Array.from({ length: count }, () => makeAgent(curve));
    crewOf(crew).agents.push(...made);
    return made.map(({ spki }) => spki);
  },
  async certify({ folder, ...part }) {
    const certificateLifetimeMs = 86_400_000;
    const options = { folder, trustDomain, clock: systemClock, random: systemRandom, certificateLifetimeMs };
    const authority = await openAuthority(options);
    for (const [position, agent] of agentsOf(part).entries()) {
      const { key, spki } = makeSessionKey();
      const { certificate } = authority.issue({ nodeId: BigInt(part.from + position + 1), publicKey: spki });
      agent.issued = { certificate, key };
      prepareContext(agent);
    }
  },
  enroll(part) {
    const { port, dialect } = crewOf(part.crew);
    return each(part, agent => enrollAgent(agent, port, dialect));
  },
  connect(part) {
    const crew = crewOf(part.crew);
    agentsOf(part).forEach(prepareContext);
    return each(part, agent => comeOnline(agent, crew));
  },
  async leave(part) {
    const agents = agentsOf(part);
    for (const agent of agents) {
      agent.persists = false;
      agent.socket?.destroy();
    }
    await until(() => agents.every(({ goneAt, socket }) => !socket || goneAt !== undefined) || undefined);
  },
  gone: part =>
    until(() => {
      const times = agentsOf(part).flatMap(({ goneAt }) => goneAt ?? []);
      return times.length === part.to - part.from ? times : undefined;
    }),
  persist(part) {
    for (const agent of agentsOf(part)) agent.persists = true;
  },
  back: part =>
    until(() => {
      const online = agentsOf(part).filter(
        ({ goneAt, onlineAt }) => goneAt === undefined && onlineAt > part.since,
      );
      return online.length === part.to - part.from ? online.map(({ onlineAt }) => onlineAt) : undefined;
    }),
  delivered: takeDelivered,
};

process.on('message', ({ number, name, words }: Order) => {
  const deed = deeds[name] as (words: unknown) => unknown;
  void Promise.resolve(words)
    .then(deed)
    .then(
      value => process.send?.({ number, value }),
      (error: unknown) => process.send?.({ number, error: String(error) }),
    );
});
// The bench has ended, however it did.
process.on('disconnect', () => process.exit());
