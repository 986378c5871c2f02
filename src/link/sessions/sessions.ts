/**
 * The live links. A session is in the table as *opening* before the registry is asked, and live only after the
 * registry has committed it, so that no interleaving leaves a revoked node connected: a revocation commits first and
 * then ends every session of the node, opening ones too. One node has one live session; a newer one replaces it at once.
 * One sweep pings all of them and ends those that do not answer or whose certificate has run out.
 *
 * Promises that what the registry says of presence follows every start and end here; leaves the wire to the door.
 */
import { nodeParty } from '../../audit-log/party.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { RateLimit } from '../../base/rate-limit.js';
import { createKeyedQueue } from '../../base/keyed-queue.js';
import type { LinkFrame, NodeFrame, Ready } from '../../protocol/generated/rollcall/v1/link.js';
import { limits, protocolVersions } from '../../protocol/limits.js';
import { ofAccount } from '../access/login/refused-account.js';
import type { Registry } from '../registry/registry.js';
import type { OfflineReason } from '../registry/offline-reasons.js';
import { identifyNode, type IdentifiedNode, type NodeIdentifier } from './identify-node.js';
import { PingSweep } from './ping-sweep.js';
import { SessionTable } from './session-table.js';
import type { Peer, Session } from './session.js';

/** Learns which sessions are live, and what their nodes say. */
export interface SessionListener {
  /** The session is live and was welcomed. */
  onOnline(session: Session, ready: Ready): void;
  /** It is not live any more; called once after `onOnline`. */
  onOffline(session: Session): void;
  /** A frame that is not of the session itself; throws PROTOCOL_INVALID for one that has no place. */
  onFrame(session: Session, frame: NodeFrame): void;
}

export interface SessionsOptions extends NodeIdentifier {
  readonly registry: NodeIdentifier['registry'] & Pick<Registry, 'openSession' | 'closeSession'>;
  readonly certificateLifetimeMs: number;
  readonly random: Random;
  readonly log: Log;
  readonly listener: SessionListener;
}

/** Why a session ended by itself. */
export type LeaveReason = Extract<OfflineReason, 'closed by node' | 'connection lost' | 'protocol error'>;

/** Sessions that one node may open at once; then one in ten seconds, or as often as short-lived certificates are renewed. */
export const maxBurst = 60;
export const refillMs = 10_000;
/** Nodes told to come back are spread so that the link meets about this many a second. */
const returnsPerSecond = 300;

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #table = new SessionTable();
  readonly #inTurn = createKeyedQueue();
  readonly #leaving = new Set<Promise<void>>();
  readonly #rate: RateLimit;
  readonly #sweep: PingSweep;
  #isDraining = false;

  constructor(options: SessionsOptions) {
    const { clock, certificateLifetimeMs } = options;
    this.#options = options;
    // Every start and end of a session is an event: a node must not decide how much the link writes.
    this.#rate = new RateLimit({
      elapsed: () => clock.elapsed(),
      burst: maxBurst,
      refillMs: Math.min(refillMs, certificateLifetimeMs / 8),
    });
    this.#sweep = new PingSweep({
      clock,
      onOver: (session, error, reason) => void this.#end(session, error, reason),
    });
  }

  /** Verifies, commits and welcomes; throws what the caller may know. */
  async open(peer: Peer, der: Uint8Array | undefined, ready: Ready): Promise<Session> {
    requireVersion(ready);
    if (this.#isDraining) throw drainingError();
    const node = await identifyNode(this.#options, der);
    const { tenant, certificate } = node;
    const { nodeId } = certificate;
    const refusal = this.#rate.take(`${nodeId}`, 'this node has opened too many sessions');
    if (refusal) throw ofAccount(refusal, { tenant, ...nodeParty({ id: nodeId, name: '' }) });
    const session = this.#begin(peer, node);
    await this.#table.whileOpening(session, () =>
      this.#inTurn(`${nodeId}`, () => this.#admit(session, ready)),
    );
    return session;
  }

  /** A frame of the node; throws PROTOCOL_INVALID for one that has no place here. */
  receive(session: Session, { frame }: NodeFrame): void {
    if (frame?.$case === 'pong') {
      this.#sweep.answered(session, frame.value.sequence);
      return;
    }
    if (frame === undefined || frame.$case === 'ready')
      throw new RollcallError('PROTOCOL_INVALID', 'a frame that has no place here');
    this.#options.listener.onFrame(session, { frame });
  }

  /** The peer has gone, also while still opening. */
  leave(session: Session, reason: LeaveReason): void {
    if (session.ended !== undefined) return;
    session.ended = 'by peer';
    void this.#retire(session, reason);
  }

  /** The live session that was opened with this certificate. */
  liveWith(fingerprint: string): Session | undefined {
    return this.#table.liveWith(fingerprint);
  }

  /** Ends every session of a node, opening ones too; resolves with how many when their sockets are closed. */
  endNode(tenant: string, nodeId: bigint, error: RollcallError): Promise<number> {
    return this.#endAll(this.#table.ofNode(tenant, nodeId), error);
  }

  /** The same for every node of a tenant. */
  endTenant(tenant: string, error: RollcallError): Promise<number> {
    return this.#endAll(this.#table.ofTenant(tenant), error);
  }

  /** To every live session. */
  broadcast(frame: LinkFrame): void {
    for (const session of this.#table.live) session.peer.send(frame);
  }

  count(): number {
    return this.#table.liveCount;
  }

  /** Tells every node, ends every session, and waits until the registry has it. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    this.#sweep.cancel();
    const told = [...this.#table.live];
    const spreadMs = 1_000 + (told.length / returnsPerSecond) * 1_000;
    const ends = told.map((session, position) => {
      const reconnectAfterMs = Math.round((spreadMs * (position + 1)) / (told.length + 1));
      session.peer.send({
        frame: { $case: 'drain', value: { reason: 'the link is stopping', reconnectAfterMs } },
      });
      return this.#end(session, drainingError(), 'link stopped');
    });
    for (const session of this.#table.opening) {
      session.ended = drainingError();
      ends.push(session.peer.end(session.ended));
    }
    await Promise.all(ends);
    while (this.#leaving.size > 0) await Promise.all(this.#leaving);
  }

  #begin(peer: Peer, { tenant, certificate }: IdentifiedNode): Session {
    if (this.#isDraining) throw drainingError();
    return {
      id: this.#options.random(8).readBigUInt64BE() || 1n,
      tenant,
      nodeId: certificate.nodeId,
      certificate,
      peer,
      ended: undefined,
      heardAt: this.#options.clock.elapsed(),
      pingedAt: undefined,
      pings: 0n,
      successor: undefined,
    };
  }

  /** Makes the session the node's live one. Runs one at a time per node, so table and registry agree on the order. */
  async #admit(session: Session, ready: Ready): Promise<void> {
    const { registry, clock, listener } = this.#options;
    throwIfEnded(session);
    const previous = this.#table.liveOf(session.nodeId);
    const isHandover = previous?.successor === session.certificate.fingerprint;
    await registry.openSession(session.tenant, session.nodeId, {
      session: session.id,
      certificateFingerprint: session.certificate.fingerprint,
      address: session.peer.remoteAddress,
      agentVersion: ready.agentVersion.slice(0, 64),
      takeover: isHandover ? 'handover' : 'replaced',
    });
    if (session.ended !== undefined) {
      await registry.closeSession(session.tenant, session.nodeId, session.id, { reason: 'connection lost' });
      throwIfEnded(session);
    }
    this.#table.setLive(session);
    session.heardAt = clock.elapsed();
    this.#sweep.add(session);
    this.#welcome(session, ready.protocolVersion);
    if (previous && previous.ended === undefined) this.#replace(previous, isHandover);
    listener.onOnline(session, ready);
  }

  #welcome(session: Session, protocolVersion: number): void {
    const { nodeId, certificate, peer } = session;
    const { clock, log } = this.#options;
    peer.send({
      frame: {
        $case: 'welcome',
        value: {
          nodeId,
          sessionId: session.id,
          silenceMs: limits.silenceMs,
          linkClockMs: BigInt(clock.now()),
          expiresAtMs: BigInt(certificate.notAfter),
          protocolVersion,
        },
      },
    });
    log.info({ nodeId: `${nodeId}`, remoteAddress: peer.remoteAddress }, 'node online');
  }

  #replace(previous: Session, isHandover: boolean): void {
    const { log, listener } = this.#options;
    previous.ended = new RollcallError(
      'SESSION_REPLACED',
      isHandover ? 'the session was handed over to a newer one' : 'another session of this node took over',
      { hint: 'if this was not the same machine, two machines hold this key' },
    );
    if (!isHandover)
      log.warn({ nodeId: `${previous.nodeId}` }, 'a session was replaced by a newer one of the same node');
    listener.onOffline(previous);
    void previous.peer.end(previous.ended);
  }

  /** Takes a session out of the table and records the node as offline, once. */
  #retire(session: Session, reason: OfflineReason): Promise<void> {
    const { registry, log, listener } = this.#options;
    if (!this.#table.removeLive(session)) return Promise.resolve();
    listener.onOffline(session);
    log.info({ nodeId: `${session.nodeId}`, reason }, 'node offline');
    const done = registry.closeSession(session.tenant, session.nodeId, session.id, { reason }).then(
      () => undefined,
      (error: unknown) => log.error({ err: error, nodeId: `${session.nodeId}` }, 'could not record offline'),
    );
    this.#leaving.add(done);
    void done.then(() => this.#leaving.delete(done));
    return done;
  }

  #end(session: Session, error: RollcallError, reason: OfflineReason): Promise<void> {
    if (session.ended !== undefined) return Promise.resolve();
    session.ended = error;
    const closed = session.peer.end(error);
    void this.#retire(session, reason);
    return closed;
  }

  /** For a revocation or a deleted tenant: that commit records how the nodes are now, so nothing is recorded here. */
  async #endAll(sessions: ReadonlySet<Session>, error: RollcallError): Promise<number> {
    await Promise.all(
      [...sessions].map(session => {
        session.ended = error;
        if (this.#table.removeLive(session)) this.#options.listener.onOffline(session);
        return session.peer.end(error);
      }),
    );
    return sessions.size;
  }
}

function throwIfEnded({ ended }: Session): void {
  if (isRollcallError(ended)) throw ended;
  if (ended === 'by peer')
    throw new RollcallError('LINK_UNREACHABLE', 'the node left while its session opened');
}

/** Throws PROTOCOL_VERSION. */
export function requireVersion({ protocolVersion }: Pick<Ready, 'protocolVersion'>): void {
  if (protocolVersions.some(version => version === protocolVersion)) return;
  throw new RollcallError('PROTOCOL_VERSION', `protocol version ${protocolVersion} is not spoken here`, {
    hint: `this link speaks version ${protocolVersions.join(', ')}`,
  });
}

function drainingError(): RollcallError {
  return new RollcallError('LINK_DRAINING', 'the link is stopping; come back in a moment');
}
