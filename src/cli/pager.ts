/** Long listings on a terminal go through the pager that the person has set, or `less`, as those of git do. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Environment } from './terminal.js';

export interface Pager {
  /** Resolves when there is room for more; false once nobody reads on. */
  write(text: string): Promise<boolean>;
  /** Resolves when the person has left it. */
  end(): Promise<void>;
}

/** Undefined where there is no pager, or none is wanted: `ROLLCALL_PAGER=cat`. */
export async function openPager(environment: Environment): Promise<Pager | undefined> {
  const wanted = environment['ROLLCALL_PAGER'] ?? environment['PAGER'];
  if (wanted === '' || wanted === 'cat') return undefined;
  const child = spawn(wanted ?? 'less', {
    // The variable holds a command line.
    shell: wanted !== undefined,
    stdio: ['pipe', 'inherit', 'inherit'],
    // Ends by itself when all fits on the screen, shows colours, and leaves what it showed.
    env: { LESS: 'FRX', ...environment },
  });
  const ended = once(child, 'close').catch(() => undefined);
  try {
    await once(child, 'spawn');
  } catch {
    return undefined;
  }
  // Ctrl-C is for the pager, which the person is in.
  const ignore = (): void => undefined;
  process.on('SIGINT', ignore);
  let isRead = true;
  child.stdin.on('error', () => (isRead = false));
  child.on('error', () => (isRead = false));
  return {
    async write(text) {
      if (isRead && !child.stdin.write(text))
        await Promise.race([once(child.stdin, 'drain'), ended]).catch(ignore);
      return isRead && !child.stdin.writableEnded && child.exitCode === null;
    },
    async end() {
      child.stdin.end();
      await ended;
      process.off('SIGINT', ignore);
    },
  };
}
