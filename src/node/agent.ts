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

export interface Agent {
  /**
   * Runs until the node is told to stop or was revoked; twice is one promise. Rejects only for what is wrong on this
   * machine: a state folder that cannot be used (FILE_UNREADABLE, FILE_PERMISSIONS, CONFIG_INVALID).
   */
  start(): Promise<AgentOutcome>;
  /** Says good-bye to the link, and resolves when nothing runs any more. Twice is one promise. */
  close(): Promise<void>;
  readonly status: AgentStatus;
}

/** Why a session, or the attempt at one, ended. */
interface Setback {
  readonly error: RollcallError;
  readonly askedPauseMs?: number | undefined;
  /** How long the node was online before it, ms; undefined when it was not. */
  readonly heldMs?: number;
}

export function createAgent(options: AgentOptions): Agent {
  const { config, privateKey, runs, clock, random, log } = options;
  const { link: address, route, tenant } = config;
  const stopping = new AbortController();
  const { signal } = stopping;
  let status: AgentStatus = { phase: 'new', since: clock.now() };
  let running: Promise<AgentOutcome> | undefined;

  const isStopping = () => signal.aborted;

  function enter(phase: AgentStatus['phase'], memory?: Memory): void {
    const state = memory?.state();
    status = { phase, since: clock.now(), nodeId: state?.nodeId, trustDomain: state?.trustDomain };
    options.onStatus?.(status);
  }

  async function run(): Promise<AgentOutcome> {
    const owner = { nodeKey: privateKey.publicKey.fingerprint, tenant };
    // The timers of the clock hold no process, and between two attempts there is nothing else.
    const awake = setInterval(() => undefined, 2 ** 30);
    try {
      const { stateDir } = config;
      const store =
        stateDir === undefined ? createMemoryState() : await openStateFolder(stateDir, owner, random);
      try {
        const givenRoots = config.serverRoots;
        await runs?.start();
        return await runWith(await openMemory({ store, owner, givenRoots, clock, log }));
      } finally {
        await runs?.close();
        await store.close();
      }
    } finally {
      clearInterval(awake);
      enter('ended');
    }
  }

  function runWith(memory: Memory): Promise<AgentOutcome> {
    const conditions = createConditionLog(log);
    const steps = createSteps({
      address,
      route,
      tenant,
      privateKey,
      memory,
      clock,
      random,
      log,
      conditions,
      runs,
      signal,
    });
    return repeat(memory, conditions, () => attempt(memory, conditions, steps));
  }

  async function repeat(
    memory: Memory,
    conditions: ConditionLog,
    next: () => Promise<Setback>,
  ): Promise<AgentOutcome> {
    let failures = 0;
    let refusals = 0;
    for (;;) {
      const { error, askedPauseMs, heldMs } = await next();
      if (isStopping()) return { reason: 'closed' };
      if (error.code === 'NODE_REVOKED') return { reason: 'revoked', error };
      if (heldMs !== undefined && heldMs >= settledAfterMs) failures = refusals = 0;
      failures += 1;
      if (isRefusal(error)) {
        refusals += 1;
        memory.dropCertificate();
      }
      const pauseMs = pauseAfter({ code: error.code, failures, refusals, askedPauseMs }, random);
      if (heldMs === undefined) conditions.report(error, pauseMs);
      enter('waiting', memory);
      await sleep(clock, pauseMs, signal);
      if (isStopping()) return { reason: 'closed' };
    }
  }

  async function attempt(memory: Memory, conditions: ConditionLog, steps: Steps): Promise<Setback> {
    try {
      const remembered = memory.usable() !== undefined;
      if (!remembered) await enrollAnew(memory, steps);
      enter('connecting', memory);
      const live = await (remembered ? goLiveAgain(memory, steps) : steps.goLive());
      return await beOnline(live, memory, conditions, steps);
    } catch (thrown) {
      return { error: toRollcallError(thrown) };
    }
  }

  async function enrollAnew(memory: Memory, steps: Steps): Promise<void> {
    enter('enrolling', memory);
    await steps.enrollAnew();
  }

  /**
   * With a certificate of before. That its node is revoked does not mean that the key is: an operator may have
   * registered it again, as a new node, and only an enrollment tells.
   */
  async function goLiveAgain(memory: Memory, steps: Steps): Promise<Live> {
    try {
      return await steps.goLive();
    } catch (error) {
      if (!isRollcallError(error, 'NODE_REVOKED')) throw error;
      memory.dropCertificate();
      await enrollAnew(memory, steps);
      return steps.goLive();
    }
  }

  async function beOnline(
    live: Live,
    memory: Memory,
    conditions: ConditionLog,
    steps: Steps,
  ): Promise<Setback> {
    const startedAt = clock.elapsed();
    const fields = { nodeId: `${live.session.welcome.nodeId}`, link: formatAddress(address) };
    enter('online', memory);
    conditions.clear();
    log.info({ ...fields, trustDomain: status.trustDomain }, 'online');
    const end = await holdOnline(live, { steps, memory, clock, random, log, conditions, signal });
    const heldMs = clock.elapsed() - startedAt;
    if (end.reason === 'closed') {
      log.info({ ...fields, reason: 'told to stop' }, 'offline');
      return { error: toldToStop(), heldMs };
    }
    const { error } = end;
    log.info({ ...fields, code: error.code, reason: error.message, hint: error.hint }, 'offline');
    return { error, heldMs, askedPauseMs: end.reason === 'drained' ? end.pauseMs : undefined };
  }

  return {
    start: () => (running ??= run()),
    async close() {
      stopping.abort();
      await running?.catch(() => undefined);
    },
    get status() {
      return status;
    },
  };
}

/** Not an error, but it takes the place of one. */
function toldToStop(): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', 'told to stop');
}
