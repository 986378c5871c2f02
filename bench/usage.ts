/** The resources that a process uses, from /proc of Linux. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

/** Of the kernel's counters in /proc/PID/stat; 100 on every platform Node.js runs on. */
const ticksPerSecond = 100;

/** CPU of all threads so far, ms. Exact to the microsecond where the kernel keeps schedstat, else to 10 ms. */
export function cpuMs(pid: number): number {
  const ticks = ticksOf(pid, 13, 14);
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    const exact = threads.reduce((sum, thread) => sum + runNanoseconds(pid, thread), 0) / 1e6;
    // Threads that have ended are only in the ticks.
    return Math.max(exact, ticks);
  } catch {
    return ticks;
  }
}

/** CPU of all children of this process that have ended and were waited for, ms, exact to 10 ms. */
export function endedChildrenCpuMs(): number {
  return ticksOf(process.pid, 15, 16);
}

function ticksOf(pid: number, ...places: number[]): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name, second, may hold spaces; the third follows its closing parenthesis.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return places.reduce((sum, place) => sum + Number(fields[place - 2]), 0) * (1000 / ticksPerSecond);
}

function runNanoseconds(pid: number, thread: string): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ', 1)[0]);
  } catch {
    return 0;
  }
}

/** Resident memory, KiB. */
export function residentKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/** From now on the kernel measures the peak memory of the process anew. */
export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** The peak of resident memory since then, KiB. */
export function peakKib(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/** Monotonic and the same in every process of the machine, ms. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}
