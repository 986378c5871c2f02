/** A disk that a test may fill up or make read-only: a small file system in memory, mounted for the test alone. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '../../src/base/errors.js';
import { makeFolder } from './test-link.js';

type TapTest = Parameters<typeof makeFolder>[0];

export interface SmallDisk {
  readonly folder: string;
  /** Takes every byte that is left. */
  fill(): void;
  /** Gives them back. */
  free(): void;
  /** Waits until nothing on it is open for writing. */
  makeReadOnly(): Promise<void>;
  makeWritable(): Promise<void>;
}

/** Undefined where mounting is not allowed, or not known. */
export async function mountSmallDisk(t: TapTest, bytes: number): Promise<SmallDisk | undefined> {
  const folder = join(await makeFolder(t), 'disk');
  await mkdir(folder);
  const run = (command: string, ...parts: string[]): void => {
    execFileSync(command, parts, { stdio: 'ignore' });
  };
  try {
    run('mount', '-t', 'tmpfs', '-o', `size=${bytes},mode=0700`, 'tmpfs', folder);
  } catch {
    return undefined;
  }
  // Lazily: a process of the test may still be in it.
  t.teardown(() => run('umount', '-l', folder));
  const ballast = join(folder, 'ballast');
  return {
    folder,
    fill: () => fillWith(ballast),
    free: () => rmSync(ballast, { force: true }),
    makeReadOnly: () => untilDone(() => run('mount', '-o', 'remount,ro', folder)),
    makeWritable: () => untilDone(() => run('mount', '-o', 'remount,rw', folder)),
  };
}

async function untilDone(attempt: () => void): Promise<void> {
  for (;;) {
    try {
      attempt();
      return;
    } catch {
      await new Promise(resolve => setTimeout(resolve, 5));
    }
  }
}

function fillWith(path: string): void {
  const file = openSync(path, 'a');
  try {
    for (let size = 65_536; size >= 1;) {
      try {
        writeSync(file, Buffer.alloc(size));
      } catch (error) {
        if (systemErrorCode(error) !== 'ENOSPC') throw error;
        size = Math.floor(size / 2);
      }
    }
  } finally {
    closeSync(file);
  }
}
