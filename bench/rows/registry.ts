/** A registry of a million nodes: opening it after a kill, a page, a lookup, the first count, and the command. */
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import { createAudit } from '../../src/link/audit/audit.js';
import { storeFolder } from '../../src/link/link.js';
import { Registry } from '../../src/link/registry/registry.js';
import { openLevelStore } from '../../src/store/level.js';
import { prepareStore } from '../../src/store/schema.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import type { ControlCalls } from '../../test/harness/control-calls.js';
import { connectOperator } from '../../test/harness/operator.js';
import { startBare, type Bare } from '../bare/bare.js';
import type { Figure, Measured } from '../figures.js';
import { startLink, type BenchLink } from '../link.js';
import { seedRegistry } from '../seed.js';
import type { Stage } from '../stage.js';
import { cpuMs, now } from '../usage.js';
import { freePort, type Workplace } from '../workplace.js';
import { measureCommand, type CommandTimes } from './command.js';
import type { Row } from './row.js';

export const registryRow: Row = {
  name: 'registry',
  about: 'a registry of 1,000,000 nodes: open after SIGKILL, page, lookup, count; `rollcall nodes list`',
  run: measureRegistry,
};

const name = 'million';
const pageSize = 100;
const query = { statuses: [], labels: {}, text: '', pageSize, pageToken: '' };

async function measureRegistry(stage: Stage): Promise<Figure[]> {
  const { place } = stage;
  const count = place.isQuick ? 5_000 : 1_000_000;
  const store = storeFolder(await place.subfolder(name));
  place.progress(`registry: writing ${count} nodes`);
  const seededAt = now();
  await seedRegistry(place, store, count);
  place.progress(`registry: written in ${((now() - seededAt) / 1000).toFixed(0)} s; room by room`);
  const rooms = await measureRooms(place, store, count, place.isQuick ? 200 : 5_000);
  const { link, openedMs, countedMs } = await reopenAfterKill(stage, place.isQuick ? 1 : 5);
  const bare = await startBare(place, stage.authorityFile);
  const bareControl = operatorOf(stage, bare);
  const asked = await measureQuestions(link, bare, bareControl, count, place.isQuick ? 50 : 500);
  const listed = await measureCommand(stage, link, bare, place.isQuick ? 2 : 20);
  bareControl.close();
  await bare.program.stop('SIGKILL');
  await link.stop();
  return figuresOf(count, { openedMs, countedMs, ...rooms, ...asked, ...listed });
}

interface Found extends CommandTimes {
  readonly openedMs: Measured;
  readonly countedMs: Measured;
  readonly roomPage: Measured;
  readonly roomLookup: Measured;
  readonly page: Measured;
  readonly barePage: Measured;
  readonly lookup: Measured;
  readonly bareLookup: Measured;
}

function figuresOf(count: number, found: Found): Figure[] {
  const unit = 'ms';
  const beside = (bare: Measured) => ({ 'bare grpc-js': bare });
  return [
    {
      ...{ id: 'registry.open', title: `${count} nodes: link start after SIGKILL → both ports open`, unit },
      ...found.openedMs,
      budget: { max: 1_000 },
    },
    {
      ...{ id: 'registry.count', title: 'from then on: first count of all nodes done', unit },
      ...found.countedMs,
      note: 'in the background; a page or a lookup does not wait for it',
    },
    {
      ...{ id: 'registry.page', title: `a page of ${pageSize}, in the registry`, unit },
      ...found.roomPage,
      budget: { max: 5, of: 'p99' },
    },
    {
      ...{ id: 'registry.lookup', title: 'lookup by id, in the registry', unit },
      ...found.roomLookup,
      budget: { max: 0.2 },
    },
    {
      ...{ id: 'registry.page.asked', title: `a page of ${pageSize}, asked over the control port`, unit },
      ...found.page,
      beside: beside(found.barePage),
      note: 'CPU is that of the server; bare answers with a page it has in memory',
    },
    {
      ...{ id: 'registry.lookup.asked', title: 'lookup by name, asked over the control port', unit },
      ...found.lookup,
      beside: beside(found.bareLookup),
    },
    {
      ...{ id: 'list.wall', title: '`rollcall nodes list --limit 100`', unit },
      ...found.list,
      beside: { ...beside(found.bareList), 'node itself': found.nothing },
      budget: { max: 250 },
      note: 'bare: a program that does nothing but one call by grpc-js; node itself: an empty program',
    },
  ];
}

/** In this process, without a link: the cost of the registry and the store by themselves. */
async function measureRooms(
  place: Workplace,
  folder: string,
  count: number,
  runs: number,
): Promise<Pick<Found, 'roomPage' | 'roomLookup'>> {
  const store = await openLevelStore(folder);
  place.onClose(() => store.close());
  await prepareStore(store);
  const audit = createAudit({ clock: systemClock });
  const log = { trace: none, debug: none, info: none, warn: none, error: none, child: () => log };
  const registry = new Registry({ store, audit, clock: systemClock, random: systemRandom, log });
  const ids = await someIds(registry, count, runs);
  const roomLookup = await timeEach(ids, id => registry.findNode(defaultTenant, id));
  const pages = Array.from({ length: Math.min(runs, 500) }, (_, index) => index);
  let pageToken = '';
  const roomPage = await timeEach(pages, async () => {
    const page = await registry.listNodes(defaultTenant, {
      pageSize,
      ...(pageToken !== '' && { pageToken }),
    });
    pageToken = page.nextPageToken;
  });
  await registry.close();
  await store.close();
  return { roomPage, roomLookup };
}

function none(): void {
  // Nothing is logged here.
}

/** Ids from all over the registry: names are numbered, ids are random. */
async function someIds(registry: Registry, count: number, wanted: number): Promise<bigint[]> {
  const ids: bigint[] = [];
  for (let index = 0; index < wanted; index += 1) {
    const { id } = await registry.resolveNode(defaultTenant, nameOf(Math.floor((index / wanted) * count)));
    ids.push(id);
  }
  return ids.sort((one, other) => Number(one % 9973n) - Number(other % 9973n));
}

function nameOf(index: number): string {
  return `node-${index}`;
}

async function timeEach<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<Measured> {
  const samples: number[] = [];
  for (const item of items) {
    const startedAt = now();
    await work(item);
    samples.push(now() - startedAt);
  }
  return { samples };
}

async function reopenAfterKill(stage: Stage, runs: number) {
  const { place } = stage;
  const ports = { node: await freePort(), control: await freePort() };
  const opened: number[] = [];
  const counted: number[] = [];
  const cpu: number[] = [];
  let link = await startLink(place, { name, ports });
  for (let run = 0; run < runs; run += 1) {
    place.progress(`registry: SIGKILL and start, ${run + 1} of ${runs}`);
    await link.stop('SIGKILL');
    link = await startLink(place, { name, ports });
    cpu.push(cpuMs(link.program.pid));
    opened.push(link.openedMs);
    const openedAt = Date.now();
    counted.push((await link.logged('link started')) - openedAt);
  }
  place.onClose(() => link.stop());
  return { link, openedMs: { samples: opened, cpuMs: cpu }, countedMs: { samples: counted } };
}

function operatorOf({ place }: Stage, bare: Bare): ControlCalls {
  return connectOperator(`127.0.0.1:${bare.openPort}`, 'none', place.ca);
}

async function measureQuestions(
  link: BenchLink,
  bare: Bare,
  bareControl: ControlCalls,
  count: number,
  runs: number,
): Promise<Pick<Found, 'page' | 'barePage' | 'lookup' | 'bareLookup'>> {
  const runList = Array.from({ length: runs }, (_, index) => index);
  const ask = async (pid: number, work: (index: number) => Promise<unknown>): Promise<Measured> => {
    for (const index of runList.slice(0, 20)) await work(index);
    const cpuBefore = cpuMs(pid);
    const { samples } = await timeEach(runList, work);
    return { samples, cpuMs: [(cpuMs(pid) - cpuBefore) / runs] };
  };
  let pageToken = '';
  return {
    page: await ask(link.program.pid, async () => {
      ({ nextPageToken: pageToken } = await link.control.listNodes({ ...query, pageToken }));
    }),
    barePage: await ask(bare.program.pid, () => bareControl.listNodes(query)),
    lookup: await ask(link.program.pid, index =>
      link.control.getNode({ node: nameOf(Math.floor((index / runs) * count)) }),
    ),
    bareLookup: await ask(bare.program.pid, () => bareControl.getNode({ node: 'any' })),
  };
}
