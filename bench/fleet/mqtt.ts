/** The client side of MQTT 3.1.1 (OASIS), as far as being connected goes: CONNECT, CONNACK, PINGREQ. */
import type { TLSSocket } from 'node:tls';

/** Between two pings; the server waits half as long again for one. */
export const keepAliveMs = 9_000;

const packetType = { connect: 0x10, connectAnswer: 0x20, ping: 0xc0 } as const;
const cleanSession = 0x02;
const hasPassword = 0x40;
const hasUsername = 0x80;

export const pingPacket = Buffer.of(packetType.ping, 0);

/** The password is the name: the server checks the certificate. */
export function connectPacket(clientId: string, username: string): Buffer {
  const body = Buffer.concat([
    text('MQTT'),
    Buffer.of(4, cleanSession | hasUsername | hasPassword, 0, keepAliveMs / 1000),
    text(clientId),
    text(username),
    text(username),
  ]);
  if (body.length > 127) throw new RangeError('the length of a longer packet would take two bytes');
  return Buffer.concat([Buffer.of(packetType.connect, body.length), body]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}

/** Calls when the server has accepted the CONNECT; its other packets are ignored. */
export function mqttPackets(socket: TLSSocket, onAccepted: () => void): void {
  let isIn = false;
  socket.on('data', (bytes: Buffer) => {
    if (isIn) return;
    if (bytes[0] !== packetType.connectAnswer || bytes[3] !== 0) {
      socket.destroy();
      return;
    }
    isIn = true;
    onAccepted();
  });
}
