/**
 * All runs of a node, for as long as its agent lives: sessions come and go, what is owed stays. It takes the frames of the live
 * session, hands each to its run, and bounds what may wait. When the key of this machine is registered as another node, what was
 * owed before is forgotten: no link wants it any more.
 *
 * Nothing is opened before it is needed: a node without runs has no journal, no folder and no socket of app hosts, except the
 * socket that another user's app host connects to.
 */
import { toRollcallError } from '../../base/errors.js';
import { createLifecycle } from '../../base/lifecycle.js';
import type { Random } from '../../base/random.js';
import type { Hosting } from '../../app-host/hosting/hosting.js';
import type { Deliver, LinkFrame } from '../../protocol/generated/rollcall/v1/link.js';
import { createConditionLog } from '../agent-log.js';
import type { NodeConfig } from '../node-config.js';
import type { AppSource } from './app-source.js';
import { HostingHolder } from './hosting-holder.js';
import { LinkHolder, type LiveLink } from './link-holder.js';
import { NodeRun } from './node-run.js';
import { retry } from './retry.js';
import type { RunContext } from './run-context.js';
import { RunStorage, type RunStorageOptions } from './run-storage.js';
import { Slots } from './runner-slots.js';

export type RunFrame = NonNullable<LinkFrame['frame']>;

/** The runs of a node on one session. */
export interface Attachment {
  /** Passes over frames that are not about runs, and all frames once there is a newer session. Never throws. */
  receive(frame: RunFrame): void;
  /** The session is over. */
  detach(): void;
}

export interface NodeRunsOptions extends RunStorageOptions {
  readonly apps: AppSource;
  readonly nodeConfig: NodeConfig;
  readonly openHosting: () => Promise<Hosting>;
  /** Opens the hosting at the start, and not with the first app. */
  readonly hostingAtStart: boolean;
  /** Maximum of runners at once. */
  readonly maxRuns: number;
  readonly handlerTimeoutMs: number;
  /** Of each runner. */
  readonly memoryBytes: number;
  readonly random: Random;
}

export const nodeRunLimits = {
  runs: 1_000,
  /** Messages that wait in all runs together, and the bytes of their contents. */
  messages: 10_000,
  bytes: 64 * 1024 * 1024,
} as const;
/** Maximum of objects under way at once: a connection has eight streams, and the session and its renewal need theirs. */
const maxTransfers = 4;

/** The present session. */
interface Current {
  readonly live: LiveLink;
  /** Frames that came before it was known whose journal this is; undefined since then. */
  early: RunFrame[] | undefined;
}

export class NodeRuns {
  readonly #options: NodeRunsOptions;
  readonly #lifecycle = createLifecycle();
  readonly #closing = new AbortController();
  readonly #link: LinkHolder;
  readonly #storage: RunStorage;
  readonly #hosting: HostingHolder;
  readonly #context: RunContext;
  readonly #runs = new Map<bigint, NodeRun>();
  /** Runs that are over and being forgotten. */
  readonly #ending = new Map<bigint, Promise<void>>();
  /** Runs that this process knows only by their objects. */
  #strays: readonly bigint[] = [];
  #current: Current | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: NodeRunsOptions) {
    const { clock, log } = options;
    const conditions = createConditionLog(log);
    this.#options = options;
    this.#link = new LinkHolder(clock, (error, retryInMs) => conditions.report(error, retryInMs));
    this.#storage = new RunStorage(options, this.#lifecycle);
    this.#hosting = new HostingHolder(options.openHosting, this.#lifecycle, log);
    const persist: RunContext['persist'] = (work, signal) =>
      retry(work, {
        clock,
        signal,
        onFailure: (error, retryInMs) => conditions.report(error, retryInMs),
      });
    this.#context = {
      apps: options.apps,
      nodeConfig: options.nodeConfig,
      link: this.#link,
      journal: signal => persist(() => this.#storage.journal(), signal),
      openJournal: () => this.#storage.openedJournal,
      objects: () => this.#storage.objects(),
      hosting: async signal => {
        const hosting = await persist(() => this.#hosting.open(), signal);
        await this.#hosting.whenReady(hosting, signal);
        return hosting;
      },
      runnerSlots: new Slots(options.maxRuns),
      transferSlots: new Slots(maxTransfers),
      persist,
      handlerTimeoutMs: options.handlerTimeoutMs,
      memoryBytes: options.memoryBytes,
      clock,
      random: options.random,
      log,
    };
  }

  /**
   * Opens what an earlier process left. Rejects for what is wrong on this machine: a socket that cannot be opened, a journal
   * that cannot be read.
   */
  async start(): Promise<void> {
    if (this.#options.hostingAtStart) await this.#hosting.open();
    const names = await this.#storage.load();
    this.#strays = names.filter(name => /^[1-9]\d{0,19}$/.test(name)).map(BigInt);
    if (names.length > 0) await this.#retainAnswers();
  }

  /** For Ready: the runs of which anything is kept. */
  knownRuns(): readonly bigint[] {
    const journaled = this.#storage.openedJournal?.runs() ?? [];
    const known = new Set([...this.#runs.keys(), ...journaled, ...this.#strays]);
    return [...known].filter(run => !this.#ending.has(run)).slice(0, nodeRunLimits.runs);
  }

  /** A session was welcomed; it takes the place of the one before. */
  attach(live: LiveLink): Attachment {
    const current: Current = { live, early: [] };
    this.#current = current;
    if (this.#storage.owner === live.nodeId) this.#begin(current);
    else void this.#changeOwner(live.nodeId).then(() => this.#begin(current));
    return {
      receive: frame => {
        if (!this.#isCurrent(current)) return;
        if (current.early) current.early.push(frame);
        else this.#receive(frame);
      },
      detach: () => {
        if (!this.#isCurrent(current)) return;
        this.#current = undefined;
        this.#link.set(undefined);
      },
    };
  }

  /** Ends all runners. What is owed stays in the journal. Twice is one promise. */
  close(): Promise<void> {
    return (this.#closed ??= this.#close());
  }

  async #close(): Promise<void> {
    this.#closing.abort(toRollcallError(new Error('the agent ends')));
    this.#current = undefined;
    this.#link.set(undefined);
    await Promise.all([...this.#runs.values()].map(run => run.close()));
    await Promise.all(this.#ending.values());
    await Promise.all([this.#storage.settled(), this.#hosting.settled()]);
    await this.#lifecycle.close();
  }

  async #retainAnswers(): Promise<void> {
    const objects = await this.#storage.objects();
    const journal = this.#storage.openedJournal;
    for (const run of journal?.runs() ?? []) {
      for (const message of journal?.answered(run) ?? []) {
        const digest = journal?.objectOf(run, message);
        if (digest !== undefined) objects.bucket(run.toString(), 'out').retain(digest);
      }
    }
  }

  #isCurrent(current: Current): boolean {
    return this.#current === current && !this.#closing.signal.aborted;
  }

  #begin(current: Current): void {
    if (!this.#isCurrent(current)) return;
    this.#link.set(current.live);
    for (const run of this.#storage.openedJournal?.runs() ?? []) this.#findRun(run);
    for (const run of this.#runs.values()) run.sendAgain();
    const frames = current.early ?? [];
    current.early = undefined;
    for (const frame of frames) this.#receive(frame);
  }

  /** Never rejects. Nothing is sent before it is known that all of it is this node's. */
  async #changeOwner(nodeId: bigint): Promise<void> {
    const { log } = this.#options;
    const isOther = this.#storage.owner !== undefined;
    this.#storage.belongTo(nodeId);
    try {
      if (isOther) {
        const open = [...this.#runs.values()];
        this.#runs.clear();
        await Promise.all(open.map(run => run.close()));
      }
      const { signal } = this.#closing;
      const forgotten = await this.#context.persist(() => this.#storage.claim(nodeId), signal);
      if (isOther || forgotten) {
        this.#strays = [];
        await this.#storage.forgetObjects();
      }
      if (forgotten) log.warn({}, 'what was owed as another node is forgotten');
    } catch (error) {
      log.error({ err: error }, 'what was owed as another node could not be forgotten');
    }
  }

  #findRun(id: bigint): NodeRun {
    const found = this.#runs.get(id) ?? new NodeRun(id, this.#context);
    this.#runs.set(id, found);
    return found;
  }

  #receive(frame: RunFrame): void {
    try {
      this.#take(frame);
    } catch (error) {
      const fields = { frame: frame.$case, err: error };
      this.#options.log.error(fields, 'a frame of the link could not be dealt with');
    }
  }

  #take(frame: RunFrame): void {
    const runs = this.#runs;
    if (frame.$case === 'assign') {
      const { run } = frame.value;
      if (runs.has(run) || runs.size < nodeRunLimits.runs) this.#findRun(run).assign(frame.value);
    } else if (frame.$case === 'deliver') this.#takeDeliver(frame.value);
    else if (frame.$case === 'cancel' && frame.value.message === 0n) void this.#endRun(frame.value.run);
    else if (frame.$case === 'cancel') runs.get(frame.value.run)?.cancel(Number(frame.value.message));
    else if (frame.$case === 'acknowledge')
      runs.get(frame.value.run)?.acknowledge(Number(frame.value.message));
    else if (frame.$case === 'logTaken') runs.get(frame.value.run)?.logTaken(Number(frame.value.sequence));
  }

  #takeDeliver(deliver: Deliver): void {
    const { run: id, message } = deliver;
    if (message < 1n || message > BigInt(Number.MAX_SAFE_INTEGER) || this.#ending.has(id)) return;
    const run = this.#runs.get(id);
    if (run && this.#hasRoom()) run.deliver(deliver);
    else this.#refuse(deliver);
  }

  #hasRoom(): boolean {
    let messages = 0;
    let bytes = 0;
    for (const { load } of this.#runs.values()) {
      messages += load.messages;
      bytes += load.bytes;
    }
    return messages < nodeRunLimits.messages && bytes < nodeRunLimits.bytes;
  }

  #refuse({ run, message }: Deliver): void {
    const value = { code: 'QUEUE_FULL', message: 'too much waits on the node itself' };
    const outcome = { $case: 'error', value } as const;
    this.#link.live?.send({ $case: 'reply', value: { run, message, outcome } });
  }

  /** The run is over: nothing of it is kept. */
  #endRun(id: bigint): Promise<void> {
    const under = this.#ending.get(id);
    if (under) return under;
    const run = this.#runs.get(id);
    this.#runs.delete(id);
    this.#strays = this.#strays.filter(each => each !== id);
    const forgetting = this.#forgetRun(id, run)
      .catch((error: unknown) =>
        this.#options.log.warn({ run: `${id}`, err: error }, 'a run could not be forgotten'),
      )
      .finally(() => this.#ending.delete(id));
    this.#ending.set(id, forgetting);
    return forgetting;
  }

  async #forgetRun(id: bigint, run: NodeRun | undefined): Promise<void> {
    await run?.close();
    await this.#storage.forgetRun(id);
  }
}
