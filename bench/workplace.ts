/**
 * The place of a run of the bench: a temporary folder with certificates, and everything that must be undone at the
 * end.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { command } from '../scripts/running.js';
import { systemRandom } from '../src/base/random.js';
import { makeDevelopmentCertificates } from '../src/link/authority/development.js';

export interface Workplace {
  readonly folder: string;
  /** Small sizes, for looking at the bench itself. */
  readonly isQuick: boolean;
  /** The folder for profiles of link processes, if requested. */
  readonly profileFolder: string | undefined;
  /** The built command that links are started by. */
  readonly linkCommand: string;
  /** That of another checkout, to be measured beside it. */
  readonly baselineCommand: string | undefined;
  /** The CA of every server here, PEM, also in `ca.crt`. */
  readonly ca: string;
  readonly serverCertificateFile: string;
  readonly serverKeyFile: string;
  readonly caFile: string;
  /** A folder below, made. */
  subfolder(name: string): Promise<string>;
  /** Reports the progress of the bench. */
  progress(text: string): void;
  onClose(undo: () => Promise<unknown>): void;
  close(): Promise<void>;
}

export interface WorkplaceOptions {
  readonly isQuick: boolean;
  readonly profileFolder?: string | undefined;
  readonly baselineCommand?: string | undefined;
}

export async function openWorkplace(options: WorkplaceOptions): Promise<Workplace> {
  const folder = await mkdtemp(join(tmpdir(), 'rollcall-bench-'));
  const made = makeDevelopmentCertificates({ hosts: [], days: 2, now: Date.now(), random: systemRandom });
  const file = (name: string): string => join(folder, name);
  await writeFile(file('ca.crt'), made.ca.certificate);
  await writeFile(file('server.pem'), made.server.certificate);
  await writeFile(file('server.key'), made.server.key, { mode: 0o600 });
  const undoing: (() => Promise<unknown>)[] = [];
  const startedAt = Date.now();
  let isClosed = false;
  return {
    folder,
    isQuick: options.isQuick,
    profileFolder: options.profileFolder,
    linkCommand: command,
    baselineCommand: options.baselineCommand,
    ca: made.ca.certificate,
    caFile: file('ca.crt'),
    serverCertificateFile: file('server.pem'),
    serverKeyFile: file('server.key'),
    async subfolder(name) {
      if (isClosed) throw new Error('the bench is over');
      await mkdir(file(name), { recursive: true, mode: 0o700 });
      return file(name);
    },
    progress(text) {
      if (isClosed) return;
      const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
      process.stderr.write(`[${seconds.padStart(4)} s] ${text}\n`);
    },
    onClose: undo => void undoing.push(undo),
    async close() {
      isClosed = true;
      for (const undo of undoing.splice(0).reverse()) await undo().catch(() => undefined);
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** The same place for the link of the other checkout, in folders of its own. */
export function baselineOf(place: Workplace): Workplace | undefined {
  const { baselineCommand } = place;
  if (baselineCommand === undefined) return undefined;
  return {
    ...place,
    linkCommand: baselineCommand,
    baselineCommand: undefined,
    subfolder: name => place.subfolder(`baseline-${name}`),
    progress: text => place.progress(`baseline: ${text}`),
  };
}

/** Of the link, and of the certificates that peers are shown. */
export const trustDomain = 'bench.example';

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
