/** An HTTP proxy that opens tunnels by CONNECT and passes on whatever goes through them. */
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { connect, type AddressInfo, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Test } from 'tap';

export interface ConnectProxyOptions {
  /** `user:password`; what comes without them gets a 407. */
  readonly credentials?: string;
  /** For an https:// proxy. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Names that only the proxy can look up, and their addresses. */
  readonly hosts?: Readonly<Record<string, string>>;
}

export interface ConnectProxy {
  readonly port: number;
  readonly url: string;
  /** The target of every CONNECT, whatever came of it. */
  readonly asked: readonly string[];
  /** Tunnels that are open now. */
  readonly open: () => number;
  /** Ends them; new ones work. */
  cut(): void;
}

export async function startConnectProxy(
  t: Pick<Test, 'teardown'>,
  { credentials, tls, hosts = {} }: ConnectProxyOptions = {},
): Promise<ConnectProxy> {
  const asked: string[] = [];
  const tunnels = new Set<Duplex>();
  const sockets = new Set<Socket>();
  const server = tls ? createHttpsServer(tls) : createHttpServer();
  const wanted = credentials && `Basic ${Buffer.from(credentials).toString('base64')}`;
  server.on('connection', (socket: Socket) => {
    sockets.add(socket.on('error', () => undefined).on('close', () => sockets.delete(socket)));
  });
  server.on('connect', ({ url = '', headers }, near: Duplex, first: Buffer) => {
    asked.push(url);
    near.on('error', () => undefined);
    if (wanted !== undefined && headers['proxy-authorization'] !== wanted) {
      near.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="t"\r\n\r\n');
      return;
    }
    const { hostname, port } = new URL(`tcp://${url}`);
    const host = hosts[hostname] ?? hostname.replace(/^\[|\]$/g, '');
    const far = connect({ host, port: Number(port) }, () => {
      near.write('HTTP/1.1 200 Connection established\r\nContent-Length: 0\r\n\r\n');
      far.write(first);
      far.pipe(near).pipe(far);
    });
    far.on('error', () => near.end('HTTP/1.1 503 Service Unavailable\r\n\r\n'));
    tunnels.add(near);
    far.on('close', () => near.destroy());
    near.on('close', () => {
      tunnels.delete(near);
      far.destroy();
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `${tls ? 'https' : 'http'}://${tls ? 'localhost' : '127.0.0.1'}:${port}`,
    asked,
    open: () => tunnels.size,
    cut: () => tunnels.forEach(tunnel => tunnel.destroy()),
  };
}
