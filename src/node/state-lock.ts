/**
 * Keeps two agents out of one state folder: both would spend each other's generations and look like a stolen key. The
 * lock is a file that names the process holding it; one whose process is gone is taken over, so that a crash never
 * locks a node out. It guards against mistakes, not against ill will, and only on one machine.
 */
import { link, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { kill, pid as ownPid } from 'node:process';
import { RollcallError, systemErrorCode } from '../base/errors.js';
import type { Random } from '../base/random.js';

export interface StateLock {
  release(): Promise<void>;
}

/** A process. A pid alone may long be another one's; a host name tells containers that share a folder apart. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** In clock ticks since boot; 0 where the system does not tell. */
  readonly startedAt: number;
}

/** Folders this very process holds. */
const held = new Set<string>();

/** CONFIG_INVALID when a living process holds the folder. */
export async function lockStateFolder(folder: string, random: Random): Promise<StateLock> {
  const path = join(await realpath(folder), 'lock');
  if (held.has(path)) throw inUse(folder, ownPid);
  held.add(path);
  try {
    await claim(path, folder, random);
  } catch (error) {
    held.delete(path);
    throw error;
  }
  let released = false;
  return {
    async release() {
      if (released) return;
      released = true;
      await rm(path, { force: true });
      held.delete(path);
    },
  };
}

function inUse(folder: string, pid: number): RollcallError {
  return new RollcallError('CONFIG_INVALID', `the state folder ${folder} is in use by process ${pid}`, {
    hint: 'one node runs once; give another node a --state-dir of its own',
  });
}

async function claim(path: string, folder: string, random: Random): Promise<void> {
  const draft = `${path}.${random(6).toString('hex')}`;
  const own: Holder = { pid: ownPid, host: hostname(), startedAt: await startOf(ownPid) };
  await writeFile(draft, JSON.stringify(own), { mode: 0o600, flag: 'wx' });
  try {
    // A link appears whole and fails when something is there.
    while (!(await tryLink(draft, path))) {
      const holder = await readHolder(path);
      if (holder && (await isAlive(holder))) throw inUse(folder, holder.pid);
      await takeAway(path, `${draft}.stale`);
    }
  } finally {
    await rm(draft, { force: true });
  }
}

async function tryLink(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function takeAway(path: string, aside: string): Promise<void> {
  await rename(path, aside).catch(() => undefined);
  // Another agent may have taken the stale lock over between the look and the rename: then what was moved is its own.
  const moved = await readHolder(aside);
  if (moved && (await isAlive(moved))) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const { pid, host, startedAt } = JSON.parse(await readFile(path, 'utf8')) as Partial<Holder>;
    return Number.isInteger(pid) && pid !== undefined && pid > 0 && host !== undefined
      ? { pid, host, startedAt: startedAt ?? 0 }
      : undefined;
  } catch {
    return undefined;
  }
}

async function isAlive({ pid, host, startedAt }: Holder): Promise<boolean> {
  if (host !== hostname()) return false;
  // Locks of this process are in `held`; a file with its number is left over from an earlier process.
  if (pid === ownPid) return false;
  try {
    kill(pid, 0);
  } catch (error) {
    if (systemErrorCode(error) === 'ESRCH') return false;
  }
  return startedAt === 0 || (await startOf(pid)) === startedAt;
}

/** Field 22 of /proc/PID/stat (proc(5)), counted after the command's name, which may hold anything; 0 without one. */
async function startOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[19] ?? 0) || 0;
}
