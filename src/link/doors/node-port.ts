/** The node port: TLS 1.3 that asks for a client certificate without demanding one, and frames on it (docs/protocol.md). */
import type { SecureContextOptions } from 'node:tls';
import type { Clock } from '../../base/clock.js';
import { toRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { RateLimit } from '../../base/rate-limit.js';
import type { Address } from '../../base/settings.js';
import { limits, wireProtocol } from '../../protocol/limits.js';
import { accountIn } from '../access/login/refused-account.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Enrollments } from '../enrollment/enrollments.js';
import type { Metrics } from '../metrics.js';
import type { NodeObjects } from '../runs/messages/node-objects.js';
import type { Sessions } from '../sessions/sessions.js';
import { Conversation, type ConversationOptions } from './nodes/conversation.js';
import { Listener } from './tls/listener.js';
import type { Caps } from './tls/pending-connections.js';

export interface PortOptions {
  readonly address: Address;
  readonly context: SecureContextOptions;
  readonly caps: Caps;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly refusals: RefusalCounter;
}

export interface Port {
  readonly address: Address;
  reload(context: SecureContextOptions): void;
  stopAccepting(): void;
  close(): Promise<void>;
}

export interface NodePortOptions extends PortOptions {
  readonly sessions: Sessions;
  readonly enrollments: Enrollments;
  readonly objects: NodeObjects;
}

export const deadlines = { handshakeMs: limits.handshakeMs, idleMs: 5_000, afterRefusalMs: 1_000 };

const otherProtocol = `a peer at the node port does not speak ${wireProtocol}`;
const otherProtocolHint = 'if it is an agent of an older release, update it';

export async function openNodePort(options: NodePortOptions): Promise<Port> {
  const { sessions, enrollments, objects, clock, log, metrics, refusals } = options;
  const conversations: ConversationOptions = {
    sessions,
    enrollments,
    objects,
    clock,
    log,
    objectConnections: new WeakMap(),
    onSessionRefused: (from, error) =>
      refusals.count(from.remoteAddress, toRollcallError(error).code, accountIn(error)),
    onLate(from) {
      metrics.enrollment('DEADLINE_EXCEEDED');
      refusals.count(from.remoteAddress, 'DEADLINE_EXCEEDED');
    },
  };
  // A stranger must not decide how much is written.
  const otherProtocols = new RateLimit({ elapsed: () => clock.elapsed(), burst: 8, refillMs: 3_600_000 / 8 });
  const listener = new Listener({
    address: options.address,
    context: options.context,
    requestCertificate: true,
    chooseProtocol: offered => (offered.includes(wireProtocol) ? wireProtocol : undefined),
    caps: options.caps,
    deadlines,
    clock,
    log,
    onHandshake: outcome => metrics.handshake('node', outcome),
    onOtherProtocol: remoteAddress => {
      if (!otherProtocols.take('', '')) log.warn({ remoteAddress, hint: otherProtocolHint }, otherProtocol);
    },
    onConnection(connection, socket) {
      if (socket.alpnProtocol !== wireProtocol) connection.destroy();
      else new Conversation(connection, socket, conversations).begin();
    },
  });
  return {
    address: await listener.listen(),
    reload: context => listener.reload(context),
    stopAccepting: () => listener.stopAccepting(),
    close: () => listener.close(),
  };
}
