/** The ways of a light agent to come online with each kind of server, and to stay online. */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { LinkFrame, NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { protocolVersions } from '../../src/protocol/limits.js';
import { paths } from '../bare/methods.js';
import { openTls, type LightAgent } from './agent.js';
import { FrameObjects, handle, readByGrpc } from './deliveries.js';
import { decodeFrame, openFrames, type Said } from './frames.js';
import { openGrpcConnection } from './http2.js';
import { connectPacket, keepAliveMs, mqttPackets, pingPacket } from './mqtt.js';
import { natsConnect, natsLines } from './nats.js';
import type { Dialect } from './orders.js';

/** Resolves when the server has accepted the agent; `onGone` is called when the session has ended. */
type Opening = (agent: LightAgent, port: number, onGone: () => void) => Promise<TLSSocket>;

const frameSession: Opening = async (agent, port, onGone) => {
  let isOnline = false;
  let isIn = (): void => undefined;
  const objects = new FrameObjects(agent, port);
  const connection = await openFrames(port, agent.context, message => {
    const frame = decodeFrame(message);
    if (frame?.$case === 'deliver') handle(frame.value, { reply: said => connection.say(said), objects });
    if (frame?.$case === 'ping') connection.say({ $case: 'pong', value: { sequence: frame.value.sequence } });
    if (frame?.$case !== 'welcome') return;
    isOnline = true;
    isIn();
  });
  const { socket } = connection;
  return new Promise((resolve, reject) => {
    isIn = () => resolve(socket);
    socket.once('close', () => {
      objects.close();
      if (isOnline) onGone();
      else reject(new Error('the server ended a session before its welcome'));
    });
    connection.say(ready());
  });
};

const grpcSession: Opening = async (agent, port, onGone) => {
  const socket = await openTls({ port, protocol: 'h2', context: agent.context });
  return new Promise((resolve, reject) => {
    let isOnline = false;
    let isLost = false;
    const lost = (): void => {
      if (isOnline && !isLost) onGone();
      isLost = true;
      if (!isOnline) reject(new Error('the server ended a session before its welcome'));
    };
    socket.once('close', lost);
    const connection = openGrpcConnection(socket);
    const call = { path: paths.connect, first: readyFrame() };
    const stream = connection.open(call, {
      message(bytes) {
        const { frame } = LinkFrame.decode(bytes);
        if (frame?.$case === 'deliver')
          handle(frame.value, {
            reply: said => stream.write(NodeFrame.encode({ frame: said }).finish()),
            objects: { read: (...of) => readByGrpc(connection, ...of) },
          });
        if (frame?.$case === 'ping') stream.write(pongFrame(frame.value.sequence));
        if (frame?.$case !== 'welcome') return;
        isOnline = true;
        resolve(socket);
      },
      ended: lost,
    });
  });
};

function ready(): Said {
  const value = {
    protocolVersion: protocolVersions[0],
    agentVersion: 'bench',
    nodeClockMs: BigInt(Date.now()),
    runs: [],
  };
  return { $case: 'ready', value };
}

function readyFrame(): Uint8Array {
  return NodeFrame.encode({ frame: ready() }).finish();
}

function pongFrame(sequence: bigint): Uint8Array {
  return NodeFrame.encode({ frame: { $case: 'pong', value: { sequence } } }).finish();
}

/** NATS: its server speaks first, in plain text, and TLS begins after that. */
const natsSession: Opening = async (agent, port, onGone) => {
  const prepare = (socket: Socket): Promise<void> =>
    new Promise((resolve, reject) => {
      socket.once('data', () => resolve());
      socket.once('close', () => reject(new Error('closed before INFO')));
    });
  const socket = await openTls({ port, context: agent.context, prepare });
  return welcomed(socket, onGone, isIn => {
    natsLines(socket, isIn);
    socket.write(natsConnect);
  });
};

/** MQTT 3.1.1; the client is the one who pings. */
const mqttSession: Opening = async (agent, port, onGone) => {
  const socket = await openTls({ port, context: agent.context });
  const name = agent.spki.subarray(-16).toString('hex');
  return welcomed(socket, onGone, isIn => {
    mqttPackets(socket, isIn);
    socket.write(connectPacket(name, name));
    const timer = setInterval(() => socket.write(pingPacket), keepAliveMs);
    socket.once('close', () => clearInterval(timer));
  });
};

function welcomed(
  socket: TLSSocket,
  onGone: () => void,
  start: (isIn: () => void) => void,
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    let isOnline = false;
    socket.once('close', () => {
      if (isOnline) onGone();
      else reject(new Error('the server did not let an agent in'));
    });
    start(() => {
      isOnline = true;
      resolve(socket);
    });
  });
}

export const openings: Readonly<Record<Dialect, Opening>> = {
  rollcall: frameSession,
  bare: grpcSession,
  nats: natsSession,
  mqtt: mqttSession,
};
