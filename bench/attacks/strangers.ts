/** Connections of strangers that ask for something and then say nothing more. */
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { once } from 'node:events';
import { sleep } from '../usage.js';
import type { Attack, Target } from './attack.js';

/** One more call than an honest peer makes: its headers, and never a message. */
export const unendingCalls: Attack = {
  name: 'strangers',
  title: '3,000 strangers begin a call and send nothing more',
  async begin(target) {
    const count = target.place.isQuick ? 100 : 3_000;
    const sessions: ClientHttp2Session[] = [];
    while (sessions.length < count) {
      const some = Array.from({ length: 50 }, (_, n) => openCall(target, `127.0.1.${(n % 4) + 1}`));
      sessions.push(...(await Promise.all(some)));
    }
    // Longer than any deadline of a connection that nothing justifies.
    await sleep(target.place.isQuick ? 1_000 : 15_000);
    return {
      note: () =>
        `${sessions.filter(each => !each.closed && !each.destroyed).length} of ${count} are still there`,
      end: () => sessions.forEach(session => session.destroy()),
    };
  },
};

async function openCall({ place, link }: Target, localAddress: string): Promise<ClientHttp2Session> {
  const raw = connectTcp({ host: '127.0.0.1', port: link.nodePort, localAddress });
  const tls = {
    socket: raw,
    host: 'localhost',
    servername: 'localhost',
    ca: place.ca,
    ALPNProtocols: ['h2'],
  };
  const session = connectHttp2('https://localhost', { createConnection: () => connectTls(tls) });
  session.on('error', () => undefined);
  await Promise.race([once(session, 'remoteSettings'), once(session, 'close')]);
  if (!session.destroyed)
    session
      .request({
        ...{ ':method': 'POST', ':path': '/rollcall.v1.Objects/Read' },
        ...{ 'content-type': 'application/grpc', te: 'trailers' },
      })
      .on('error', () => undefined);
  return session;
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
