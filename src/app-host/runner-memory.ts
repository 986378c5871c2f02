/**
 * How much memory a process holds, where the system tells it (`/proc`), and that the kernel takes a runner first when memory
 * runs out. Looking now and then does not bound what a process takes in between; a container does.
 */
import { readFile, writeFile } from 'node:fs/promises';
import type { Clock } from '../base/clock.js';

const lookEveryMs = 200;

/** Calls once, when the process holds more than it may. Gives a function that stops looking. */
export function watchMemory(
  pid: number,
  memoryBytes: number,
  clock: Clock,
  onTooMuch: () => void,
): () => void {
  let isOver = false;
  let isLooking = false;
  const stop = (): void => {
    isOver = true;
    looks.cancel();
  };
  const look = async (): Promise<void> => {
    if (isLooking) return;
    isLooking = true;
    const bytes = await readResidentBytes(pid);
    isLooking = false;
    if (isOver || bytes === undefined || bytes <= memoryBytes) return;
    stop();
    onTooMuch();
  };
  const looks = clock.every(lookEveryMs, () => void look());
  // Anyone may offer a process of their own to the kernel; where there is no such file, nothing is lost.
  void writeFile(`/proc/${pid}/oom_score_adj`, '1000').catch(() => undefined);
  return stop;
}

/** Undefined where the system does not tell, and for a process that is gone. */
export async function readResidentBytes(pid: number): Promise<number | undefined> {
  try {
    const found = /^VmRSS:\s*(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'));
    return found ? Number(found[1]) * 1024 : undefined;
  } catch {
    return undefined;
  }
}
