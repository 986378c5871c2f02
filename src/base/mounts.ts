/**
 * The mounts of the system, as far as it tells (`/proc/self/mountinfo`, proc_pid_mountinfo(5)): enough to know a
 * place into which a platform has put a secret for this process alone.
 */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface Mount {
  /** Its mount point. */
  readonly point: string;
  readonly type: string;
  readonly isReadOnly: boolean;
}

/** Mounts in the order they were made: of two at one point the later one counts. */
export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap(line => {
    const [before = '', after = ''] = line.split(' - ');
    const [, , , , point, options] = before.split(' ');
    const [type] = after.split(' ');
    if (point === undefined || options === undefined || type === undefined) return [];
    return [{ point: unescape(point), type, isReadOnly: options.split(',').includes('ro') }];
  });
}

/** Space, tab, line feed and backslash are written in octal. */
function unescape(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

/** Everybody's: what lies there was put there by anybody, for anybody. */
const commonPlaces: ReadonlySet<string> = new Set([
  '/',
  '/dev',
  '/dev/shm',
  '/run',
  '/run/lock',
  '/run/shm',
  '/tmp',
  '/var/lock',
  '/var/run',
  '/var/tmp',
]);

/** The folder that systemd names to a unit in `$CREDENTIALS_DIRECTORY`, also where it may not mount anything. Only root writes here. */
const credentials = '/run/credentials/';

/**
 * Whether a platform mounted this file for its process: a file system in memory of its own (secrets of Kubernetes and
 * of Docker Swarm, credentials of systemd), or the file or its folder read-only (secrets of Compose).
 */
export function isSecretMount(path: string, mounts: readonly Mount[]): boolean {
  if (path.startsWith(credentials)) return true;
  const isAround = ({ point }: Mount) => path === point || path.startsWith(point === '/' ? '/' : `${point}/`);
  const longest = mounts.filter(isAround).reduce<Mount | undefined>((best, each) => {
    return best && best.point.length > each.point.length ? best : each;
  }, undefined);
  if (!longest || commonPlaces.has(longest.point) || longest.point.startsWith('/run/user/')) return false;
  if (longest.type === 'tmpfs' || longest.type === 'ramfs') return true;
  return longest.isReadOnly && (longest.point === path || longest.point === dirname(path));
}

/** No mounts where the system does not tell. */
export async function readMounts(): Promise<readonly Mount[]> {
  return parseMounts(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''));
}
