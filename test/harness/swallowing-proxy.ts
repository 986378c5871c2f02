/** A way to the link on which packets can be lost: TCP, byte by byte, until it swallows what comes from either side. */
import { connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';

export interface SwallowingProxy {
  /** host:port */
  readonly address: string;
  /** Drops all data of existing connections silently; new connections work. */
  swallow(): void;
  /** Ends the connections there are; new ones work. */
  cut(): void;
}

export async function startSwallowingProxy(
  t: Pick<Test, 'teardown'>,
  port: number,
): Promise<SwallowingProxy> {
  const sockets = new Set<Socket>();
  const lost = new Set<Socket>();
  const pass = (from: Socket, to: Socket): void => {
    sockets.add(from);
    from.on('error', () => undefined);
    from.on('data', chunk => {
      if (!lost.has(from)) to.write(chunk);
    });
    // A cut cable does not signal the end of the connection.
    from.on('close', () => {
      sockets.delete(from);
      if (!lost.has(from)) to.destroy();
    });
  };
  const server = createServer({ allowHalfOpen: false }, inside => {
    const outside = connect({ host: '127.0.0.1', port });
    pass(inside, outside);
    pass(outside, inside);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    sockets.forEach(socket => socket.destroy());
    server.close();
  });
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('no port');
  return {
    address: `127.0.0.1:${address.port}`,
    swallow: () => sockets.forEach(socket => lost.add(socket)),
    cut: () => sockets.forEach(socket => socket.destroy()),
  };
}
