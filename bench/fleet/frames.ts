/** Frames of a light agent (docs/protocol.md): four bytes of length, then a message. */
import type { TLSSocket } from 'node:tls';
import { FrameReader, encodeLength } from '../../src/protocol/frames.js';
import { LinkFrame, NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { limits, wireProtocol } from '../../src/protocol/limits.js';
import { openTls, type LightAgent } from './agent.js';

export type Said = NonNullable<NodeFrame['frame']>;
export type Heard = NonNullable<LinkFrame['frame']>;

export interface FrameConnection {
  readonly socket: TLSSocket;
  say(frame: Said): void;
}

/** The bytes of a message are good until `heard` returns. */
export async function openFrames(
  port: number,
  context: LightAgent['context'],
  heard: (message: Buffer) => void,
): Promise<FrameConnection> {
  const socket = await openTls({ port, protocol: wireProtocol, context });
  const reader = new FrameReader(limits.messageBytes);
  socket.on('data', (chunk: Buffer) => {
    reader.add(chunk);
    for (let message = reader.next(); message !== undefined; message = reader.next()) heard(message);
  });
  return {
    socket,
    say(frame) {
      if (!socket.writable) return;
      const message = NodeFrame.encode({ frame }).finish();
      socket.write(Buffer.concat([encodeLength(message.length), message]));
    },
  };
}

export function decodeFrame(message: Buffer): Heard | undefined {
  return LinkFrame.decode(message).frame;
}
