/**
 * The steps a node takes: enroll on a connection of its own, enroll again on the live one, go live with what it has.
 * Each either did all of its work or left nothing open; when to take which is the agent's to decide.
 */
import type { Clock } from '../base/clock.js';
import { isRollcallError, RollcallError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Route } from '../base/proxy.js';
import type { Random } from '../base/random.js';
import { formatAddress, type Address } from '../base/settings.js';
import type { PrivateKey } from '../identity/private-key.js';
import type { Welcome } from '../protocol/generated/rollcall/v1/link.js';
import type { ConditionLog } from './agent-log.js';
import { fraction } from './backoff.js';
import { openConnection, type LinkConnection } from './connection.js';
import { enroll } from './enroll.js';
import { ObjectConnections } from './object-connection.js';
import type { Memory } from './memory.js';
import type { NodeRuns } from './runs/node-runs.js';
import { openSession, type Session } from './session.js';
import type { NodeState } from './state.js';

export interface StepsOptions {
  readonly address: Address;
  readonly route?: Route | undefined;
  readonly tenant: string;
  readonly privateKey: PrivateKey;
  readonly memory: Memory;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly conditions: ConditionLog;
  readonly runs?: NodeRuns | undefined;
  /** Every step gives up at once. */
  readonly signal: AbortSignal;
}

/** A welcomed session and the connection it is on. */
export interface Live {
  readonly connection: LinkConnection;
  readonly session: Session;
  /** Of the certificate it was opened with. */
  readonly generation: bigint;
  /** From its Welcome to its renewal, ms. */
  readonly renewInMs: number;
}

export interface Steps {
  /** Opens a connection without a certificate and enrolls on it. */
  enrollAnew(): Promise<void>;
  /** Enrolls again on this connection. */
  enrollOn(connection: LinkConnection): Promise<void>;
  /** Connects with the usable certificate and waits to be welcomed. A certificate the link refuses is dropped. */
  goLive(): Promise<Live>;
}

/** For TCP, a proxy on the way, and TLS, ms. */
const connectWithinMs = 10_000;

export function createSteps(options: StepsOptions): Steps {
  const { address, route, memory, clock, random, log, conditions, signal } = options;

  function connect(state?: NodeState): Promise<LinkConnection> {
    const serverRoots = memory.serverRoots();
    const certificate = state && leafOf(state);
    const timeoutMs = connectWithinMs;
    return openConnection({ address, route, serverRoots, certificate, timeoutMs, clock, signal });
  }

  async function enrollOn(connection: LinkConnection): Promise<void> {
    const { privateKey, tenant } = options;
    const known = memory.state();
    const enrollment = await enroll({
      connection,
      privateKey,
      tenant,
      trustDomain: known?.trustDomain,
      generation: known?.generation ?? 0n,
      clock,
      random,
      signal,
    });
    conditions.compareClocks(clock.now(), enrollment.linkClockMs);
    await memory.keep(enrollment);
    const { nodeId, trustDomain, generation } = enrollment;
    log.info(
      { nodeId: `${nodeId}`, trustDomain, generation: `${generation}`, link: formatAddress(address) },
      'enrolled',
    );
  }

  async function openLive(state: NodeState, connection: LinkConnection): Promise<Live> {
    const onServerRoots = (roots: readonly Buffer[]) =>
      void memory
        .takeServerRoots(roots)
        .catch((error: unknown) => log.error({ err: error }, 'server roots not kept'));
    const objects = new ObjectConnections(() => connect(state), clock);
    void connection.over.then(() => objects.close());
    const session = await openSession({
      connection,
      objects,
      clock,
      onServerRoots,
      runs: options.runs,
      signal,
    });
    conditions.compareClocks(clock.now(), Number(session.welcome.linkClockMs));
    const renewInMs = renewalDelay(session.welcome, state.renewalMarginMs, fraction(random));
    return { connection, session, generation: state.generation, renewInMs };
  }

  return {
    enrollOn,
    async enrollAnew() {
      const connection = await connect();
      try {
        await enrollOn(connection);
      } finally {
        void connection.close();
      }
    },
    async goLive() {
      const state = memory.usable();
      if (!state) throw new RollcallError('CERTIFICATE_REFUSED', 'there is no usable certificate');
      const connection = await connect(state);
      try {
        return await openLive(state, connection);
      } catch (error) {
        if (isRefusal(error)) memory.dropCertificate();
        void connection.close();
        throw error;
      }
    },
  };
}

/** The certificate cannot be used any more; the node key still can. */
export function isRefusal(error: unknown): boolean {
  return isRollcallError(error, 'CERTIFICATE_REFUSED') || isRollcallError(error, 'SESSION_EXPIRED');
}

const minRenewalMs = 500;
/** Timers take no more than 2^31 ms. */
const maxRenewalMs = 20 * 24 * 3_600_000;

/**
 * Milliseconds from Welcome to renewal, by the link's own clock alone: the margin before the end that the link asked
 * for, and up to a tenth earlier so that a fleet enrolled together does not renew together. `chance` is in [0, 1).
 */
export function renewalDelay(
  { expiresAtMs, linkClockMs }: Pick<Welcome, 'expiresAtMs' | 'linkClockMs'>,
  renewalMarginMs: number,
  chance: number,
): number {
  const dueInMs = Number(expiresAtMs - linkClockMs) - renewalMarginMs;
  return Math.min(Math.max(dueInMs * (1 - chance / 10), minRenewalMs), maxRenewalMs);
}

/** Without its issuers, which the link knows. */
function leafOf({ certificateChain: [leaf = ''], sessionKey }: NodeState): { leaf: string; key: string } {
  return { leaf, key: sessionKey };
}
