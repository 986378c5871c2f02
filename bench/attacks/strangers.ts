/** Unauthenticated connections that send a request and then stay silent. */
import { connect as connectTcp } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { once } from 'node:events';
import { encodeLength } from '../../src/protocol/frames.js';
import { wireProtocol } from '../../src/protocol/limits.js';
import { sleep } from '../usage.js';
import type { Attack, Target } from './attack.js';

/** The length of a frame, and never its bytes. */
export const unendingFrames: Attack = {
  name: 'strangers',
  title: '3,000 strangers begin a frame and send nothing more',
  async begin(target) {
    const count = target.place.isQuick ? 100 : 3_000;
    const sockets: TLSSocket[] = [];
    while (sockets.length < count) {
      const some = Array.from({ length: 50 }, (_, n) => openFrame(target, `127.0.1.${(n % 4) + 1}`));
      sockets.push(...(await Promise.all(some)));
    }
    // Longer than any deadline of a connection that nothing justifies.
    await sleep(target.place.isQuick ? 1_000 : 15_000);
    return {
      note: () => `${sockets.filter(each => !each.destroyed).length} of ${count} are still there`,
      end: () => sockets.forEach(socket => socket.destroy()),
    };
  },
};

/** A TLS connection with the beginning of a frame that never ends. */
async function openFrame({ place, link }: Target, localAddress: string): Promise<TLSSocket> {
  const socket = connectTls({
    socket: connectTcp({ host: '127.0.0.1', port: link.nodePort, localAddress }),
    host: 'localhost',
    servername: 'localhost',
    ca: place.ca,
    ALPNProtocols: [wireProtocol],
  });
  socket.on('error', () => undefined).resume();
  await Promise.race([once(socket, 'secureConnect'), once(socket, 'close')]).catch(() => undefined);
  if (!socket.destroyed) socket.write(encodeLength(1_000));
  return socket;
}

/** Sockets that are opened and never written to, again as soon as they are closed. */
export const silentSockets: Attack = {
  name: 'silent',
  title: 'strangers of four addresses hold as many silent sockets as they get',
  begin({ link, place }) {
    let isOver = false;
    let opened = 0;
    const holders = Array.from({ length: place.isQuick ? 100 : 3_000 }, async (_, n) => {
      while (!isOver) {
        const socket = connectTcp({
          ...{ host: '127.0.0.1', port: link.nodePort, localAddress: `127.0.1.${(n % 4) + 1}` },
        });
        socket.on('error', () => undefined).resume();
        opened += 1;
        await once(socket, 'close').catch(() => undefined);
        await sleep(200);
      }
    });
    return Promise.resolve({
      note: () => `${opened} sockets`,
      end() {
        isOver = true;
        void Promise.all(holders);
      },
    });
  },
};
