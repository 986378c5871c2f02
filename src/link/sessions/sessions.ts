/**
 * The live links. A session is in the table as *opening* before the registry is asked, and live only after the
 * registry has committed it, so that no order of events leaves a revoked node in: a revocation commits first and then
 * ends every session of the node, opening ones too. One node has one live session; a newer one replaces it at once.
 * One sweep pings all of them and ends those that do not answer or whose certificate has run out.
 *
 * Promises that what the registry says of presence follows every start and end here; leaves the wire to the door.
 */
import type { X509Certificate } from 'node:crypto';
import { nodeParty } from '../../audit-log/party.js';
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { RateLimit } from '../../base/rate-limit.js';
import { createTurns } from '../../base/keyed-queue.js';
import { verifyNodeCertificate, type NodeCertificate } from '../../identity/certificate.js';
import type { LinkFrame, NodeFrame, Ready } from '../../protocol/generated/rollcall/v1/link.js';
import { limits, protocolVersions } from '../../protocol/limits.js';
import { ofAccount } from '../access/login/refused-account.js';
import type { Registry } from '../registry/registry.js';
import type { OfflineReason } from '../registry/offline-reasons.js';
import { judgeSession, pingTimes, type Peer, type Session } from './session.js';

/** Whoever has something to say to the nodes that are online. */
export interface SessionListener {
  /** The session is live and was welcomed. */
  onOnline(session: Session, ready: Ready): void;
  /** It is not live any more; called once after `onOnline`. */
  onOffline(session: Session): void;
  /** A frame that is not of the session itself; throws PROTOCOL_INVALID for one that has no place. */
  onFrame(session: Session, frame: NodeFrame): void;
}

export interface SessionsOptions {
  readonly registry: Registry;
  readonly authorities: readonly X509Certificate[];
  readonly trustDomain: string;
  /** Of a node that may be registered; it never changes. */
  readonly tenantOf: (nodeId: bigint) => Promise<string>;
  readonly certificateLifetimeMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly listener: SessionListener;
}

/** Why a session ended by itself. */
export type LeaveReason = Extract<OfflineReason, 'closed by node' | 'connection lost' | 'protocol error'>;

export interface Sessions {
  /** Verifies, commits and welcomes; throws what the caller may know. */
  open(peer: Peer, certificate: Uint8Array | undefined, ready: Ready): Promise<Session>;
  /** A frame of the node; throws PROTOCOL_INVALID for one that has no place here. */
  receive(session: Session, frame: NodeFrame): void;
  /** The peer has gone, also while still opening. */
  leave(session: Session, reason: LeaveReason): void;
  /** Ends every session of a node, opening ones too; resolves with how many when their sockets are closed. */
  endNode(tenant: string, nodeId: bigint, error: RollcallError): Promise<number>;
  /** The same for every node of a tenant. */
  endTenant(tenant: string, error: RollcallError): Promise<number>;
  /** To every live session. */
  broadcast(frame: LinkFrame): void;
  count(): number;
  /** Tells every node, ends every session, and waits until the registry has it. */
  drain(): Promise<void>;
}

const sweepEveryMs = 500;
/** Sessions that one node may open at once; then one in ten seconds, or as often as short-lived certificates are renewed. */
export const maxBurst = 60;
export const refillMs = 10_000;
/** Nodes told to come back are spread so that the link meets about this many a second. */
const returnsPerSecond = 300;

export function createSessions(options: SessionsOptions): Sessions {
  const { registry, clock, log, listener } = options;
  const opening = new Set<Session>();
  const live = new Map<bigint, Session>();
  const inTurn = createTurns();
  const leaving = new Set<Promise<void>>();
  let draining = false;
  // Every coming and going is an event: a node must not decide how much the link writes.
  const rate = new RateLimit({
    elapsed: () => clock.elapsed(),
    burst: maxBurst,
    refillMs: Math.min(refillMs, options.certificateLifetimeMs / 8),
  });

  function verify(der: Uint8Array | undefined): NodeCertificate {
    if (draining) throw drainingError();
    if (!der) {
      throw new RollcallError('CERTIFICATE_REFUSED', 'the connection carries no node certificate', {
        hint: 'enroll first, then connect with the certificate',
      });
    }
    const { authorities, trustDomain } = options;
    return verifyNodeCertificate(der, { authorities, trustDomain, now: clock.now() });
  }

  function begin(peer: Peer, certificate: NodeCertificate, tenant: string): Session {
    if (draining) throw drainingError();
    return {
      id: options.random(8).readBigUInt64BE() || 1n,
      tenant,
      nodeId: certificate.nodeId,
      certificate,
      peer,
      ended: undefined,
      heardAt: clock.elapsed(),
      pingedAt: undefined,
      pings: 0n,
      successor: undefined,
    };
  }

  async function open(peer: Peer, der: Uint8Array | undefined, ready: Ready): Promise<Session> {
    requireVersion(ready);
    const certificate = verify(der);
    const { nodeId } = certificate;
    const tenant = await options.tenantOf(nodeId);
    const refusal = rate.take(`${nodeId}`, 'this node has opened too many sessions');
    if (refusal) throw ofAccount(refusal, { tenant, ...nodeParty({ id: nodeId, name: '' }) });
    const session = begin(peer, certificate, tenant);
    opening.add(session);
    try {
      await inTurn(`${session.nodeId}`, () => admit(session, ready));
    } finally {
      opening.delete(session);
    }
    return session;
  }

  /** Makes the session the node's live one. Runs one at a time per node, so table and registry agree on the order. */
  async function admit(session: Session, ready: Ready): Promise<void> {
    throwIfEnded(session);
    const previous = live.get(session.nodeId);
    const handover = previous?.successor === session.certificate.fingerprint;
    await registry.openSession(session.tenant, session.nodeId, {
      session: session.id,
      certificateFingerprint: session.certificate.fingerprint,
      address: session.peer.remoteAddress,
      agentVersion: ready.agentVersion.slice(0, 64),
      takeover: handover ? 'handover' : 'replaced',
    });
    if (session.ended !== undefined) {
      await registry.closeSession(session.tenant, session.nodeId, session.id, { reason: 'connection lost' });
      throwIfEnded(session);
    }
    live.set(session.nodeId, session);
    session.heardAt = clock.elapsed();
    welcome(session);
    if (previous && previous.ended === undefined) replace(previous, handover);
    listener.onOnline(session, ready);
  }

  function welcome(session: Session): void {
    const { nodeId, certificate } = session;
    session.peer.send({
      frame: {
        $case: 'welcome',
        value: {
          nodeId,
          sessionId: session.id,
          silenceMs: limits.silenceMs,
          linkClockMs: BigInt(clock.now()),
          expiresAtMs: BigInt(certificate.notAfter),
        },
      },
    });
    log.info({ nodeId: `${nodeId}`, remoteAddress: session.peer.remoteAddress }, 'node online');
  }

  function replace(previous: Session, handover: boolean): void {
    previous.ended = new RollcallError(
      'SESSION_REPLACED',
      handover ? 'the session was handed over to a newer one' : 'another session of this node took over',
      { hint: 'if this was not the same machine, two machines hold this key' },
    );
    if (!handover)
      log.warn({ nodeId: `${previous.nodeId}` }, 'a session was replaced by a newer one of the same node');
    listener.onOffline(previous);
    void previous.peer.end(previous.ended);
  }

  /** Takes a session out of the table and records the node as offline, once. */
  function retire(session: Session, reason: OfflineReason): Promise<void> {
    if (live.get(session.nodeId) !== session) return Promise.resolve();
    live.delete(session.nodeId);
    listener.onOffline(session);
    log.info({ nodeId: `${session.nodeId}`, reason }, 'node offline');
    const done = registry.closeSession(session.tenant, session.nodeId, session.id, { reason }).then(
      () => undefined,
      (error: unknown) => log.error({ err: error, nodeId: `${session.nodeId}` }, 'could not record offline'),
    );
    leaving.add(done);
    void done.then(() => leaving.delete(done));
    return done;
  }

  function endSession(session: Session, error: RollcallError, reason: OfflineReason): Promise<void> {
    if (session.ended !== undefined) return Promise.resolve();
    session.ended = error;
    const closed = session.peer.end(error);
    void retire(session, reason);
    return closed;
  }

  /** For a revocation or a deleted tenant: that commit records how the nodes are now, so nothing is recorded here. */
  async function endAll(sessions: readonly Session[], error: RollcallError): Promise<number> {
    const concerned = new Set(sessions);
    await Promise.all(
      [...concerned].map(session => {
        session.ended = error;
        if (live.get(session.nodeId) === session) {
          live.delete(session.nodeId);
          listener.onOffline(session);
        }
        return session.peer.end(error);
      }),
    );
    return concerned.size;
  }

  let sweptAt = clock.elapsed();
  const sweep = clock.every(sweepEveryMs, () => {
    const elapsed = clock.elapsed();
    const now = clock.now();
    // A pause of this process is no silence of the nodes: their answers wait to be read behind this very timer.
    const pausedMs = elapsed - sweptAt - sweepEveryMs;
    sweptAt = elapsed;
    if (pausedMs > sweepEveryMs) forgive(pausedMs);
    for (const session of live.values()) {
      const verdict = judgeSession(session, pingTimes, elapsed, now);
      if (verdict === 'ping') ping(session, elapsed);
      else if (verdict === 'no answer') {
        void endSession(session, new RollcallError('SESSION_NO_ANSWER', 'no answer to a ping'), verdict);
      } else if (verdict === 'certificate expired') {
        void endSession(
          session,
          new RollcallError('SESSION_EXPIRED', 'the certificate of this session has expired'),
          verdict,
        );
      }
    }
  });

  function forgive(pausedMs: number): void {
    for (const session of live.values()) {
      if (session.pingedAt !== undefined) session.pingedAt += pausedMs;
    }
  }

  function ping(session: Session, elapsed: number): void {
    session.pingedAt = elapsed;
    session.pings += 1n;
    session.peer.send({ frame: { $case: 'ping', value: { sequence: session.pings } } });
  }

  return {
    open,
    receive(session, { frame }) {
      if (frame?.$case !== 'pong') {
        if (frame === undefined || frame.$case === 'ready')
          throw new RollcallError('PROTOCOL_INVALID', 'a frame that has no place here');
        listener.onFrame(session, { frame });
        return;
      }
      if (frame.value.sequence !== session.pings || session.pingedAt === undefined) return;
      session.pingedAt = undefined;
      session.heardAt = clock.elapsed();
    },
    leave(session, reason) {
      if (session.ended !== undefined) return;
      session.ended = 'by peer';
      void retire(session, reason);
    },
    endNode(tenant, nodeId, error) {
      const current = live.get(nodeId);
      const concerned = [...opening, ...(current ? [current] : [])];
      return endAll(
        concerned.filter(session => session.nodeId === nodeId && session.tenant === tenant),
        error,
      );
    },
    endTenant: (tenant, error) =>
      endAll(
        [...opening, ...live.values()].filter(session => session.tenant === tenant),
        error,
      ),
    broadcast(frame) {
      for (const session of live.values()) session.peer.send(frame);
    },
    count: () => live.size,
    async drain() {
      draining = true;
      sweep.cancel();
      const spreadMs = 1_000 + (live.size / returnsPerSecond) * 1_000;
      const ends = [...live.values()].map((session, position) => {
        const reconnectAfterMs = Math.round((spreadMs * (position + 1)) / (live.size + 1));
        session.peer.send({
          frame: { $case: 'drain', value: { reason: 'the link is stopping', reconnectAfterMs } },
        });
        return endSession(session, drainingError(), 'link stopped');
      });
      for (const session of opening) {
        session.ended = drainingError();
        ends.push(session.peer.end(session.ended));
      }
      await Promise.all(ends);
      while (leaving.size > 0) await Promise.all(leaving);
    },
  };
}

function throwIfEnded({ ended }: Session): void {
  if (isRollcallError(ended)) throw ended;
  if (ended === 'by peer')
    throw new RollcallError('LINK_UNREACHABLE', 'the node left while its session opened');
}

function requireVersion({ protocolVersion }: Ready): void {
  if (protocolVersions.some(version => version === protocolVersion)) return;
  throw new RollcallError('PROTOCOL_VERSION', `protocol version ${protocolVersion} is not spoken here`, {
    hint: `this link speaks version ${protocolVersions.join(', ')}`,
  });
}

function drainingError(): RollcallError {
  return new RollcallError('LINK_DRAINING', 'the link is stopping; come back in a moment');
}
