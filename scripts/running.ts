/** A rollcall process started by the demo, a test or a benchmark, with the JSON lines it logs. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const root = join(import.meta.dirname, '..');
/** The built command: `npm run build` comes first. */
export const command = join(root, 'dist/src/cli/main.js');

export type LogLine = Readonly<Record<string, unknown>>;

export interface Running {
  readonly process: ChildProcess;
  readonly lines: readonly LogLine[];
  /** The exit code; null when a signal ended it. */
  readonly exited: Promise<number | null>;
  /** The first line, earlier or later, that is wanted; rejects when the process ends without it. */
  line(wanted: (line: LogLine) => boolean): Promise<LogLine>;
  /** The first line with this message. */
  says(message: string): Promise<LogLine>;
  /** Ends it and waits until it is gone. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** Whom a process runs as; only root can say so. */
export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}

export interface StartOptions {
  readonly environment?: Record<string, string>;
  readonly user?: UserIds;
  /** Of standard input; nothing by default. */
  readonly input?: string;
  /** The working folder; the root of the project by default. */
  readonly folder?: string;
}

/** Starts `rollcall …`. Its environment is this process's, without ROLLCALL_ variables, plus `environment`. */
export function startRollcall(
  parts: readonly string[],
  { environment = {}, user, input, folder = root }: StartOptions = {},
): Running {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('ROLLCALL_'));
  const child = spawn(process.execPath, [command, ...parts], {
    stdio: ['pipe', 'ignore', 'pipe'],
    cwd: folder,
    ...user,
    env: { ...Object.fromEntries(inherited), ...environment },
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const lines: LogLine[] = [];
  const listeners = new Set<() => void>();
  const changed = (): void => listeners.forEach(listener => listener());
  let over = false;
  createInterface({ input: child.stderr }).on('line', text => {
    lines.push(parseLine(text));
    changed();
  });
  const exited = once(child, 'close').then(([code]) => {
    over = true;
    changed();
    return code as number | null;
  });

  function line(wanted: (line: LogLine) => boolean): Promise<LogLine> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = lines.find(wanted);
        if (found) resolve(found);
        else if (over)
          reject(new Error(`the process ended without saying it: ${JSON.stringify(lines.slice(-3))}`));
        if (found || over) listeners.delete(look);
      };
      listeners.add(look);
      look();
    });
  }

  return {
    process: child,
    lines,
    exited,
    line,
    says: message => line(each => each['msg'] === message),
    stop(signal = 'SIGTERM') {
      child.kill(signal);
      return exited;
    },
  };
}

function parseLine(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return { msg: text };
  }
}

export interface RunningLink {
  readonly running: Running;
  /** host:port */
  readonly node: string;
  readonly control: string;
}

/** Starts a link and waits until it takes connections; 0 as port asks for a free one. */
export async function startLinkProcess(options: {
  readonly certificates: string;
  readonly dataDir: string;
  readonly node?: string;
  readonly control?: string;
  readonly more?: readonly string[];
}): Promise<RunningLink> {
  const { certificates, dataDir, node = '127.0.0.1:0', control = '127.0.0.1:0', more = [] } = options;
  const running = startRollcall([
    ...['link', '--node-address', node, '--control-address', control, '--data-dir', dataDir],
    ...[
      '--ssl-ca-certfile',
      join(certificates, 'ca.crt'),
      '--ssl-certfile',
      join(certificates, 'server.pem'),
    ],
    ...['--ssl-keyfile', join(certificates, 'server.key'), ...more],
  ]);
  const line = await running.says('link started');
  const addressOf = (field: string): string => {
    const { host, port } = line[field] as { host: string; port: number };
    return `${host}:${port}`;
  };
  return { running, node: addressOf('nodeAddress'), control: addressOf('controlAddress') };
}
