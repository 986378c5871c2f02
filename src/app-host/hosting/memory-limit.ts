/**
 * How much memory a process holds, where the system tells it (`/proc`), and that the kernel takes a runner first when memory
 * runs out. Looking now and then does not bound what a process takes in between; a container does.
 */
import { readFile, writeFile } from 'node:fs/promises';
import type { Clock } from '../../base/clock.js';

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
    const bytes = await readFamilyBytes(pid);
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

const maxProcesses = 1_000;

/** A process and what it has started, as far as the system tells: a process that has lost its parent is not found. */
export async function readFamily(pid: number): Promise<number[]> {
  const family = [pid];
  for (let at = 0; at < family.length && family.length < maxProcesses; at++)
    family.push(...(await readChildren(family[at] ?? 0)));
  return family;
}

async function readChildren(pid: number): Promise<number[]> {
  try {
    const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return text.split(' ').flatMap(each => (/^\d+$/.test(each) ? [Number(each)] : []));
  } catch {
    return [];
  }
}

async function readFamilyBytes(pid: number): Promise<number | undefined> {
  const [own, ...others] = await Promise.all((await readFamily(pid)).map(readResidentBytes));
  return own === undefined ? undefined : others.reduce<number>((sum, each) => sum + (each ?? 0), own);
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
