/**
 * The control port: the protocol offered decides. A peer that offers `http/1.1` (browsers, curl, Prometheus) gets
 * HTTP, one that offers only `h2` gets gRPC.
 */
import { ControlService } from '../../protocol/generated/rollcall/v1/control.js';
import type { AdminToken } from '../access/admin-token.js';
import type { Control, Principal } from '../control.js';
import { createControlDoor } from './grpc/control-door.js';
import { createGrpcDoor } from './grpc/grpc-door.js';
import { deadlines, type Port, type PortOptions } from './node-port.js';
import { createHealthDoor } from './rest/health-door.js';
import { createListener } from './tls/listener.js';

export interface ControlPortOptions extends PortOptions {
  readonly control: Control;
  /** Who the holder of the token is. */
  readonly principal: Principal;
  readonly token: AdminToken;
  /** Rejects when the link cannot serve. */
  readonly ready: () => Promise<void>;
}

const streamsPerConnection = 64;

export async function openControlPort(options: ControlPortOptions): Promise<Port> {
  const { clock, log, metrics, refusals, token } = options;

  const checkToken = (authorization: string | undefined, remoteAddress: string): void => {
    try {
      token.check(authorization);
    } catch (error) {
      refusals.count(remoteAddress, 'TOKEN_REFUSED');
      throw error;
    }
  };
  const door = createGrpcDoor({
    listener: () => listener,
    checkToken(authorization, connection) {
      checkToken(authorization, connection.remoteAddress);
      connection.authenticated = true;
    },
    streamsPerConnection,
    log,
  });
  door.addService(ControlService, createControlDoor(options.control, options.principal, log));
  const health = createHealthDoor({ ready: options.ready, metrics: () => metrics.render(), checkToken });

  const listener = createListener({
    address: options.address,
    context: options.context,
    requestCertificate: false,
    chooseProtocol: offered => ['http/1.1', 'h2'].find(each => offered.includes(each)),
    caps: options.caps,
    deadlines,
    clock,
    log,
    onHandshake: outcome => metrics.handshake('control', outcome),
    onConnection(connection, socket) {
      if (socket.alpnProtocol === 'h2') {
        door.serve(socket);
        return;
      }
      connection.selfTimed = true;
      health.serve(socket);
    },
  });
  const address = await listener.listen();
  return {
    address,
    reload: context => listener.reload(context),
    stopAccepting: () => listener.stopAccepting(),
    async close() {
      const closed = listener.close();
      door.close();
      health.close();
      await closed;
    },
  };
}
