/** Watches that are not read, while nodes register: the link has to hold what waits for their readers. */
import { connect, type ClientHttp2Session } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import { once } from 'node:events';
import { generatePrivateKey } from '../../src/identity/private-key.js';
import { framed } from '../../test/harness/raw-link.js';
import type { Attack, Target } from './attack.js';

const connections = 4;
const watchesEach = 60;
/** Of some 6 kB, as an operator may give them. */
const labels = Object.fromEntries(Array.from({ length: 32 }, (_, n) => [`label-${n}`, 'x'.repeat(120)]));

export const unreadWatches: Attack = {
  name: 'watches',
  title: `${connections * watchesEach} watches of one reader are not read while nodes register`,
  async begin(target) {
    const { link, place } = target;
    const token = await target.token('reader', ['viewer']);
    const sessions = await Promise.all(Array.from({ length: connections }, () => openUnread(target)));
    let refused = 0;
    for (const session of sessions)
      for (let n = 0; n < watchesEach; n += 1) watch(session, token).once('refused', () => (refused += 1));
    const wanted = place.isQuick ? 50 : 800;
    let registered = 0;
    const over = new AbortController();
    const registering = (async () => {
      while (!over.signal.aborted && registered < wanted) {
        const publicKey = generatePrivateKey('P-256').publicKey.spki;
        await link.control.registerNode({ publicKey, name: '', labels, again: false });
        registered += 1;
      }
    })();
    return {
      note: () => `${registered} nodes registered, ${refused} watches refused`,
      async end() {
        over.abort();
        await registering;
        for (const session of sessions) session.destroy();
      },
    };
  },
};

async function openUnread({ place, link }: Target): Promise<ClientHttp2Session> {
  const socket = connectTls({
    ...{ host: 'localhost', port: link.controlPort, ca: place.ca, ALPNProtocols: ['h2'] },
  });
  const session = connect('https://localhost', {
    createConnection: () => socket,
    settings: { initialWindowSize: 1 },
  });
  session.on('error', () => undefined);
  await once(session, 'remoteSettings');
  return session;
}

function watch(session: ClientHttp2Session, token: string) {
  const call = session.request({
    ...{ ':method': 'POST', ':path': '/rollcall.v1.Control/WatchNodes', te: 'trailers' },
    ...{ 'content-type': 'application/grpc', authorization: `Bearer ${token}` },
  });
  call.on('error', () => undefined);
  call.on('response', fields => {
    if (fields['rollcall-code'] !== undefined) call.emit('refused');
  });
  call.end(framed(Buffer.alloc(0)));
  return call;
}
