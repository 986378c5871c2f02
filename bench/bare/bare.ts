/** The bench's side of a bare grpc-js server: starts it and receives its events. */
import { join } from 'node:path';
import { startModule, type Program } from '../programs.js';
import type { Workplace } from '../workplace.js';

export interface BarePlan {
  readonly serverCertificateFile: string;
  readonly serverKeyFile: string;
  /** Issuer of the certificates it accepts. */
  readonly authorityFile: string;
  /** Reports over its channel which agents come and go; it costs CPU. */
  readonly tellsPresence?: boolean;
  /** HTTP/2 keepalive of grpc-js instead of pings in the stream, ms. */
  readonly keepAliveMs?: number;
  readonly keepAliveTimeoutMs?: number;
  /** The Unix socket that senders connect to. */
  readonly pushSocket: string;
  /** No pings at all: its nodes are known alive by their answers. */
  readonly isQuiet?: boolean;
}

export type BareEvent =
  | { readonly event: 'listening'; readonly nodePort: number; readonly openPort: number }
  | { readonly event: 'online' | 'offline'; readonly id: string; readonly at: number };

export interface Bare {
  readonly program: Program;
  /** Mutual TLS: sessions. */
  readonly nodePort: number;
  /** TLS: enrollments and the operator's calls. */
  readonly openPort: number;
  readonly pushSocket: string;
  /** When the server saw it, earlier or later, ms on the clock of all processes. */
  until(event: 'online' | 'offline', id: string): Promise<number>;
  clear(): void;
}

let servers = 0;

export async function startBare(
  place: Workplace,
  authorityFile: string,
  more: Pick<BarePlan, 'keepAliveMs' | 'keepAliveTimeoutMs' | 'tellsPresence' | 'isQuiet'> = {},
): Promise<Bare> {
  const { serverCertificateFile, serverKeyFile } = place;
  const pushSocket = join(place.folder, `push-${(servers += 1)}`);
  const plan: BarePlan = { serverCertificateFile, serverKeyFile, authorityFile, pushSocket, ...more };
  const program = startModule('bare/server.ts', [], { BENCH_BARE: JSON.stringify(plan) });
  place.onClose(() => program.stop('SIGKILL'));
  const seen = new Map<string, number>();
  const waiting = new Map<string, (at: number) => void>();
  const ports = await new Promise<{ nodePort: number; openPort: number }>((resolve, reject) => {
    void program.exited.then(() => reject(new Error('the bare server has ended')));
    program.process.on('message', (told: BareEvent) => {
      if (told.event === 'listening') resolve(told);
      else {
        const key = `${told.event} ${told.id}`;
        seen.set(key, told.at);
        waiting.get(key)?.(told.at);
      }
    });
  });
  return {
    program,
    nodePort: ports.nodePort,
    openPort: ports.openPort,
    pushSocket,
    until(event, id) {
      const key = `${event} ${id}`;
      const at = seen.get(key);
      return at === undefined ? new Promise(resolve => waiting.set(key, resolve)) : Promise.resolve(at);
    },
    clear() {
      seen.clear();
      waiting.clear();
    },
  };
}
