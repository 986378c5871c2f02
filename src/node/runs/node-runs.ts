/**
 * All runs of a node, for as long as its agent lives: sessions come and go, what is owed stays. It takes the frames of runs from
 * whatever session is live, hands them to the run they are about, and bounds what may wait. What was owed as another node –
 * the key was registered anew – is owed to nobody, and is forgotten.
 *
 * Nothing is opened before it is needed: a node that is given no runs has no journal, no folder and no socket of app hosts, but
 * for the socket that another user's app host connects to.
 */
import { mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.js';
import { DiskFloor } from '../../base/disk-floor.js';
import { isRollcallError, systemErrorCode, toRollcallError } from '../../base/errors.js';
import { createLifecycle } from '../../base/lifecycle.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import type { Hosting } from '../../app-host/hosting/hosting.js';
import { createObjectStore, type ObjectStore } from '../../objects/object-store.js';
import type { Deliver, LinkFrame } from '../../protocol/generated/rollcall/v1/link.js';
import { createMemoryStore } from '../../store/memory.js';
import type { Store } from '../../store/store.js';
import { createConditionLog } from '../agent-log.js';
import type { NodeConfig } from '../node-config.js';
import type { AppSource } from './app-source.js';
import { openEntryLog } from './entry-log.js';
import { openJournal, type Journal } from './journal.js';
import { createLinkHolder, type LiveLink } from './link-holder.js';
import { createNodeRun, parties, type NodeRun } from './node-run.js';
import { Slots } from './runner-slots.js';
import type { RunContext } from './run-context.js';

export type RunFrame = NonNullable<LinkFrame['frame']>;

/** Runs on one session. */
export interface Attachment {
  /** Frames about something else are passed over, and all frames once there is a newer session. Never throws. */
  receive(frame: RunFrame): void;
  /** The session is over. */
  detach(): void;
}

export interface NodeRuns {
  /**
   * Opens what an earlier process left. Rejects for what is wrong on this machine: a socket that cannot be, a journal that
   * cannot be read.
   */
  start(): Promise<void>;
  /** For Ready: those of which anything is kept. */
  knownRuns(): readonly bigint[];
  /** A session was welcomed; it takes the place of the one before. */
  attach(live: LiveLink): Attachment;
  /** Ends all runners. What is owed stays in the journal. Twice is one promise. */
  close(): Promise<void>;
}

export interface NodeRunsOptions {
  readonly apps: AppSource;
  readonly nodeConfig: NodeConfig;
  /** Where it remembers; without it everything is forgotten with this process. */
  readonly folder?: string | undefined;
  /** Where the journal lies; by default a database in that folder, or memory. */
  readonly openStore?: (() => Promise<Store>) | undefined;
  readonly openHosting: () => Promise<Hosting>;
  /** Not only when the first app is to be run. */
  readonly hostingAtStart: boolean;
  /** Runners at once. */
  readonly maxRuns: number;
  readonly handlerTimeoutMs: number;
  /** Of each runner. */
  readonly memoryBytes: number;
  /** What the objects of one run may take on the disk. */
  readonly objectBytes: number;
  /** What runs leave free of the disk; undefined for the default of DiskFloor. */
  readonly minFreeBytes: number | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export const nodeRunLimits = {
  /** Runs of which anything is known. */
  runs: 1_000,
  /** Messages that wait, and the bytes of their contents. */
  messages: 10_000,
  bytes: 64 * 1024 * 1024,
} as const;
/** Objects that are fetched or sent at once; a connection has eight streams, and the session and its renewal need theirs. */
const transfersAtOnce = 4;
const retryPauses = { firstMs: 500, mostMs: 30_000 } as const;

export function createNodeRuns(options: NodeRunsOptions): NodeRuns {
  const { folder, clock, log } = options;
  const conditions = createConditionLog(log);
  const lifecycle = createLifecycle();
  const closing = new AbortController();
  const runs = new Map<bigint, NodeRun>();
  /** Runs that are over and being forgotten. */
  const ending = new Map<bigint, Promise<void>>();
  /** Objects of runs that this process knows nothing else of. */
  let strays: readonly bigint[] = [];
  let journal: Journal | undefined;
  let opening: Promise<Journal> | undefined;
  let store: Promise<ObjectStore> | undefined;
  let hosting: Promise<Hosting> | undefined;
  let current: LiveLink | undefined;
  let owner: bigint | undefined;
  const readyListeners = new Set<() => void>();

  const link = createLinkHolder(clock, (error, retryInMs) => conditions.report(error, retryInMs));
  const context: RunContext = {
    apps: options.apps,
    nodeConfig: options.nodeConfig,
    link,
    journal: signal => persist(() => (opening ??= open()), signal),
    openJournal: () => journal,
    objects: () => (store ??= openObjects()),
    hosting: whenHosting,
    runnerSlots: new Slots(options.maxRuns),
    transferSlots: new Slots(transfersAtOnce),
    persist,
    handlerTimeoutMs: options.handlerTimeoutMs,
    memoryBytes: options.memoryBytes,
    clock,
    random: options.random,
    log,
  };

  async function persist<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    for (let pauseMs: number = retryPauses.firstMs; ; pauseMs = Math.min(2 * pauseMs, retryPauses.mostMs)) {
      signal.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        signal.throwIfAborted();
        conditions.report(toRollcallError(error), pauseMs);
      }
      await pause(clock, pauseMs, signal);
    }
  }

  async function open(): Promise<Journal> {
    let opened: Store | undefined;
    try {
      opened = await openStore();
      const ready = await openJournal(opened, openEntryLog(folder && join(folder, 'runs-entered')));
      if (owner !== undefined) await ready.claim(owner.toString());
      lifecycle.onClose(() => ready.close());
      journal = ready;
      return ready;
    } catch (error) {
      opening = undefined;
      await opened?.close();
      throw error;
    }
  }

  /** One that is damaged is set aside: the link will ask again for what it still wants. */
  async function openStore(): Promise<Store> {
    if (options.openStore) return options.openStore();
    if (folder === undefined) return createMemoryStore();
    const path = join(folder, 'runs');
    const { openLevelStore } = await import('../../store/level.js');
    try {
      return await openLevelStore(path);
    } catch (error) {
      if (!isDamaged(error)) throw error;
      const aside = `${path}.damaged`;
      await rm(aside, { recursive: true, force: true });
      await rename(path, aside);
      log.warn({ aside }, 'the journal of runs is damaged and was set aside');
      return openLevelStore(path);
    }
  }

  async function openObjects(): Promise<ObjectStore> {
    const { objectBytes: mostRunBytes, minFreeBytes } = options;
    const openIn = (path: string): ObjectStore =>
      createObjectStore({
        folder: path,
        mostRunBytes,
        floor: new DiskFloor({ folder: path, minFreeBytes, clock }),
      });
    if (folder !== undefined) return openIn(join(folder, 'objects'));
    const temporary = await mkdtemp(join(tmpdir(), 'rollcall-node-'));
    lifecycle.onClose(() => rm(temporary, { recursive: true, force: true }));
    return openIn(temporary);
  }

  async function openHosting(): Promise<Hosting> {
    try {
      const opened = await options.openHosting();
      lifecycle.onClose(() => opened.close());
      opened.onReady(() => {
        for (const listener of [...readyListeners]) listener();
      });
      return opened;
    } catch (error) {
      hosting = undefined;
      throw error;
    }
  }

  async function whenHosting(signal: AbortSignal): Promise<Hosting> {
    const opened = await persist(() => (hosting ??= openHosting()), signal);
    if (opened.isReady()) return opened;
    log.warn({ socket: opened.socketPath }, 'an app waits for an app host to connect');
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        readyListeners.delete(done);
        signal.removeEventListener('abort', done);
        if (signal.aborted) reject(signal.reason as Error);
        else resolve();
      };
      readyListeners.add(done);
      signal.addEventListener('abort', done);
    });
    return opened;
  }

  async function start(): Promise<void> {
    if (options.hostingAtStart) await (hosting ??= openHosting());
    if (folder === undefined) return;
    if (await exists(join(folder, 'runs'))) await (opening ??= open());
    if (!(await exists(join(folder, 'objects')))) return;
    const names = await (await context.objects()).listRuns();
    strays = names.filter(name => /^[1-9]\d{0,19}$/.test(name)).map(BigInt);
    await retainAnswers();
  }

  async function retainAnswers(): Promise<void> {
    const objects = await context.objects();
    for (const run of journal?.runs() ?? []) {
      for (const message of journal?.answered(run) ?? []) {
        const digest = journal?.objectOf(run, message);
        if (digest !== undefined) objects.room(run.toString(), parties.outgoing).retain(digest);
      }
    }
  }

  function findRun(id: bigint): NodeRun {
    const found = runs.get(id) ?? createNodeRun(id, context);
    runs.set(id, found);
    return found;
  }

  function knownRuns(): readonly bigint[] {
    const known = new Set([...runs.keys(), ...(journal?.runs() ?? []), ...strays]);
    return [...known].filter(run => !ending.has(run)).slice(0, nodeRunLimits.runs);
  }

  function attach(live: LiveLink): Attachment {
    current = live;
    // Frames that come before it is known whose journal this is.
    let early: RunFrame[] | undefined = [];
    const isCurrent = (): boolean => current === live && !closing.signal.aborted;
    const begin = (): void => {
      if (!isCurrent()) return;
      link.set(live);
      for (const run of journal?.runs() ?? []) findRun(run);
      for (const run of runs.values()) run.sendAgain();
      const frames = early ?? [];
      early = undefined;
      for (const frame of frames) receive(frame);
    };
    if (owner === live.nodeId) begin();
    else void changeOwner(live.nodeId).then(begin);
    return {
      receive(frame) {
        if (!isCurrent()) return;
        if (early) early.push(frame);
        else receive(frame);
      },
      detach() {
        if (!isCurrent()) return;
        current = undefined;
        link.set(undefined);
      },
    };
  }

  /** Never rejects. Until it is known that all of it is this node's, nothing is sent. */
  async function changeOwner(nodeId: bigint): Promise<void> {
    const isOther = owner !== undefined;
    owner = nodeId;
    try {
      if (isOther) {
        const open = [...runs.values()];
        runs.clear();
        await Promise.all(open.map(run => run.close()));
      }
      const forgotten = await persist(
        async () => (await journal?.claim(nodeId.toString())) ?? false,
        closing.signal,
      );
      if (isOther || forgotten) await forgetObjects();
      if (forgotten) log.warn({}, 'what was owed as another node is forgotten');
    } catch (error) {
      log.error({ err: error }, 'what was owed as another node could not be forgotten');
    }
  }

  async function forgetObjects(): Promise<void> {
    strays = [];
    const objects = await context.objects();
    for (const run of await objects.listRuns()) await objects.removeRun(run);
  }

  function receive(frame: RunFrame): void {
    try {
      take(frame);
    } catch (error) {
      log.error({ frame: frame.$case, err: error }, 'a frame of the link could not be dealt with');
    }
  }

  function take(frame: RunFrame): void {
    if (frame.$case === 'assign') {
      if (runs.has(frame.value.run) || runs.size < nodeRunLimits.runs)
        findRun(frame.value.run).assign(frame.value);
    } else if (frame.$case === 'deliver') takeDeliver(frame.value);
    else if (frame.$case === 'cancel' && frame.value.message === 0n) void endRun(frame.value.run);
    else if (frame.$case === 'cancel') runs.get(frame.value.run)?.cancel(Number(frame.value.message));
    else if (frame.$case === 'acknowledge')
      runs.get(frame.value.run)?.acknowledge(Number(frame.value.message));
    else if (frame.$case === 'logTaken') runs.get(frame.value.run)?.logTaken(Number(frame.value.sequence));
  }

  function takeDeliver(deliver: Deliver): void {
    const { run: id, message } = deliver;
    if (message < 1n || message > BigInt(Number.MAX_SAFE_INTEGER) || ending.has(id)) return;
    const run = runs.get(id);
    if (run && hasRoom()) run.deliver(deliver);
    else refuse(deliver);
  }

  function hasRoom(): boolean {
    let messages = 0;
    let bytes = 0;
    for (const { load } of runs.values()) {
      messages += load.messages;
      bytes += load.bytes;
    }
    return messages < nodeRunLimits.messages && bytes < nodeRunLimits.bytes;
  }

  function refuse({ run, message }: Deliver): void {
    const value = { code: 'QUEUE_FULL', message: 'too much waits on the node itself' };
    link.live?.send({ $case: 'reply', value: { run, message, outcome: { $case: 'error', value } } });
  }

  /** The run is over: nothing of it is kept. */
  function endRun(id: bigint): Promise<void> {
    const under = ending.get(id);
    if (under) return under;
    const run = runs.get(id);
    runs.delete(id);
    strays = strays.filter(each => each !== id);
    const forgetting = forgetRun(id, run)
      .catch((error: unknown) => log.warn({ run: `${id}`, err: error }, 'a run could not be forgotten'))
      .finally(() => ending.delete(id));
    ending.set(id, forgetting);
    return forgetting;
  }

  async function forgetRun(id: bigint, run: NodeRun | undefined): Promise<void> {
    await run?.close();
    await opening?.catch(() => undefined);
    await journal?.forgetRun(id);
    if (store) await (await store).removeRun(id.toString());
  }

  async function closeAll(): Promise<void> {
    closing.abort(toRollcallError(new Error('the agent ends')));
    current = undefined;
    link.set(undefined);
    await Promise.all([...runs.values()].map(run => run.close()));
    await Promise.all(ending.values());
    await Promise.allSettled([opening, hosting]);
    await lifecycle.close();
  }

  let closed: Promise<void> | undefined;
  return { start, knownRuns, attach, close: () => (closed ??= closeAll()) };
}

function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(delayMs, done);
    function done(): void {
      timer.cancel();
      signal.removeEventListener('abort', done);
      if (signal.aborted) reject(signal.reason as Error);
      else resolve();
    }
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** As the store says it: the cause is the database's, and the cause of that says which of its errors it is. */
function isDamaged(error: unknown): boolean {
  const cause = isRollcallError(error, 'STORE_UNAVAILABLE') ? error.cause : undefined;
  return cause instanceof Error && systemErrorCode(cause.cause) === 'LEVEL_CORRUPTION';
}
