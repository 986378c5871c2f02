/**
 * The node agent: keeps one node online. With a usable certificate it connects, otherwise it enrolls; while it is
 * online it renews; whatever ends a session or an attempt is a setback, after which it waits and begins again, for
 * ever. Only two things end it: close(), and a verified link that says this node is revoked. Nobody else on the path
 * can, because nothing is believed before the link is verified.
 *
 *     enroll → connect → online (renew, hand over) → setback → wait → …
 */
import type { Clock } from '../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Route } from '../base/proxy.js';
import type { Random } from '../base/random.js';
import { formatAddress, type Address } from '../base/settings.js';
import { sleep } from '../base/wait.js';
import type { NodeId } from '../identity/node-id.js';
import type { PrivateKey } from '../identity/private-key.js';
import { createConditionLog, type ConditionLog } from './agent-log.js';
import { pauseAfter, settledAfterMs } from './backoff.js';
import { openMemory, type Memory } from './memory.js';
import { holdOnline } from './online.js';
import type { NodeRuns } from './runs/node-runs.js';
import { createMemoryState, openStateFolder } from './state.js';
import { createSteps, isRefusal, type Live, type Steps } from './steps.js';

export interface AgentConfig {
  readonly link: Address;
  /** Straight to the link unless given. */
  readonly route?: Route | undefined;
  /** PEM, one certificate each; at least one. */
  readonly serverRoots: readonly string[];
  readonly tenant: string;
  /** Without one, nothing is remembered past this process. */
  readonly stateDir?: string | undefined;
}

export interface AgentOptions {
  readonly config: AgentConfig;
  readonly privateKey: PrivateKey;
  /** Belongs to the agent from its start on. Without it frames of runs are passed over. */
  readonly runs?: NodeRuns | undefined;
  /** Called after each change of the status. */
  readonly onStatus?: ((status: AgentStatus) => void) | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export type AgentOutcome =
  { readonly reason: 'closed' } | { readonly reason: 'revoked'; readonly error: RollcallError };

export interface AgentStatus {
  readonly phase: 'new' | 'enrolling' | 'connecting' | 'online' | 'waiting' | 'ended';
  /** Since when, ms since 1970. */
  readonly since: number;
  readonly nodeId?: NodeId | undefined;
  readonly trustDomain?: string | undefined;
}

/** Why a session, or the attempt at one, ended. */
interface Setback {
  readonly error: RollcallError;
  readonly askedPauseMs?: number | undefined;
  /** How long the node was online before it, ms; undefined when it was not. */
  readonly heldMs?: number;
}

export class Agent {
  readonly #options: AgentOptions;
  readonly #stopping = new AbortController();
  #status: AgentStatus;
  #running: Promise<AgentOutcome> | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#status = { phase: 'new', since: this.#options.clock.now() };
  }

  /**
   * Runs until close() or until the node was revoked; twice is one promise. Rejects only for what is wrong on this
   * machine: a state folder that cannot be used (FILE_UNREADABLE, FILE_PERMISSIONS, CONFIG_INVALID).
   */
  start(): Promise<AgentOutcome> {
    return (this.#running ??= this.#run());
  }

  /** Says good-bye to the link, and resolves when nothing runs any more. Twice is one promise. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running?.catch(() => undefined);
  }

  get status(): AgentStatus {
    return this.#status;
  }

  #isStopping() {
    return this.#stopping.signal.aborted;
  }

  #enter(phase: AgentStatus['phase'], memory?: Memory): void {
    const state = memory?.state();
    this.#status = {
      phase,
      since: this.#options.clock.now(),
      nodeId: state?.nodeId,
      trustDomain: state?.trustDomain,
    };
    this.#options.onStatus?.(this.#status);
  }

  async #run(): Promise<AgentOutcome> {
    const owner = {
      nodeKey: this.#options.privateKey.publicKey.fingerprint,
      tenant: this.#options.config.tenant,
    };
    // The timers of the clock hold no process, and between two attempts there is nothing else.
    const awake = setInterval(() => undefined, 2 ** 30);
    try {
      const { stateDir } = this.#options.config;
      const store =
        stateDir === undefined
          ? createMemoryState()
          : await openStateFolder(stateDir, owner, this.#options.random);
      try {
        const givenRoots = this.#options.config.serverRoots;
        await this.#options.runs?.start();
        return await this.#runWith(
          await openMemory({ store, owner, givenRoots, clock: this.#options.clock, log: this.#options.log }),
        );
      } finally {
        await this.#options.runs?.close();
        await store.close();
      }
    } finally {
      clearInterval(awake);
      this.#enter('ended');
    }
  }

  #runWith(memory: Memory): Promise<AgentOutcome> {
    const conditions = createConditionLog(this.#options.log);
    const steps = createSteps({
      address: this.#options.config.link,
      route: this.#options.config.route,
      tenant: this.#options.config.tenant,
      privateKey: this.#options.privateKey,
      memory,
      clock: this.#options.clock,
      random: this.#options.random,
      log: this.#options.log,
      conditions,
      runs: this.#options.runs,
      signal: this.#stopping.signal,
    });
    return this.#repeat(memory, conditions, () => this.#attempt(memory, conditions, steps));
  }

  async #repeat(
    memory: Memory,
    conditions: ConditionLog,
    next: () => Promise<Setback>,
  ): Promise<AgentOutcome> {
    let failures = 0;
    let refusals = 0;
    for (;;) {
      const { error, askedPauseMs, heldMs } = await next();
      if (this.#isStopping()) return { reason: 'closed' };
      if (error.code === 'NODE_REVOKED') return { reason: 'revoked', error };
      if (heldMs !== undefined && heldMs >= settledAfterMs) failures = refusals = 0;
      failures += 1;
      if (isRefusal(error)) {
        refusals += 1;
        memory.dropCertificate();
      }
      const pauseMs = pauseAfter(
        { code: error.code, failures, refusals, askedPauseMs },
        this.#options.random,
      );
      if (heldMs === undefined) conditions.report(error, pauseMs);
      this.#enter('waiting', memory);
      await sleep(this.#options.clock, pauseMs, this.#stopping.signal);
      if (this.#isStopping()) return { reason: 'closed' };
    }
  }

  async #attempt(memory: Memory, conditions: ConditionLog, steps: Steps): Promise<Setback> {
    try {
      const remembered = memory.usable() !== undefined;
      if (!remembered) await this.#enrollAnew(memory, steps);
      this.#enter('connecting', memory);
      const live = await (remembered ? this.#goLiveAgain(memory, steps) : steps.goLive());
      return await this.#beOnline(live, memory, conditions, steps);
    } catch (thrown) {
      const error = toRollcallError(thrown);
      return { error, askedPauseMs: error.retryAfterMs };
    }
  }

  async #enrollAnew(memory: Memory, steps: Steps): Promise<void> {
    this.#enter('enrolling', memory);
    await steps.enrollAnew();
  }

  /**
   * With a certificate of before. That its node is revoked does not mean that the key is: an operator may have
   * registered it again, as a new node, and only an enrollment tells.
   */
  async #goLiveAgain(memory: Memory, steps: Steps): Promise<Live> {
    try {
      return await steps.goLive();
    } catch (error) {
      if (!isRollcallError(error, 'NODE_REVOKED')) throw error;
      memory.dropCertificate();
      await this.#enrollAnew(memory, steps);
      return steps.goLive();
    }
  }

  async #beOnline(live: Live, memory: Memory, conditions: ConditionLog, steps: Steps): Promise<Setback> {
    const startedAt = this.#options.clock.elapsed();
    const fields = {
      nodeId: `${live.session.welcome.nodeId}`,
      link: formatAddress(this.#options.config.link),
    };
    this.#enter('online', memory);
    conditions.clear();
    this.#options.log.info({ ...fields, trustDomain: this.#status.trustDomain }, 'online');
    const end = await holdOnline(live, {
      steps,
      memory,
      clock: this.#options.clock,
      random: this.#options.random,
      log: this.#options.log,
      conditions,
      signal: this.#stopping.signal,
    });
    const heldMs = this.#options.clock.elapsed() - startedAt;
    if (end.reason === 'closed') {
      this.#options.log.info({ ...fields, reason: 'told to stop' }, 'offline');
      return { error: toldToStop(), heldMs };
    }
    const { error } = end;
    this.#options.log.info(
      { ...fields, code: error.code, reason: error.message, hint: error.hint },
      'offline',
    );
    const askedPauseMs = end.reason === 'drained' ? end.pauseMs : error.retryAfterMs;
    return { error, heldMs, askedPauseMs };
  }
}

/** Not an error, but it takes the place of one. */
function toldToStop(): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', 'told to stop');
}
