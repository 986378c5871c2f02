/** The client side of the NATS protocol, as far as being connected goes: CONNECT, and PONG to each PING. */
import type { TLSSocket } from 'node:tls';

const about = {
  verbose: false,
  pedantic: false,
  tls_required: true,
  lang: 'bench',
  version: '1',
  protocol: 1,
};

/** The server answers the PING once it has taken the CONNECT. */
export const natsConnect = `CONNECT ${JSON.stringify(about)}\r\nPING\r\n`;

/** Answers pings; calls at the first PONG. */
export function natsLines(socket: TLSSocket, onPong: () => void): void {
  let unread = '';
  let isIn = false;
  socket.on('data', (bytes: Buffer) => {
    const lines = (unread + bytes.toString('latin1')).split('\r\n');
    unread = lines.pop() ?? '';
    for (const line of lines) {
      if (line === 'PING') socket.write('PONG\r\n');
      else if (line === 'PONG' && !isIn) {
        isIn = true;
        onPong();
      }
    }
  });
}
