/**
 * Checks who else may read a secret file. One's own file is for nobody else: 0600. A file of root is not for this process to
 * change, and root hands it to a group on purpose (a Secret of Kubernetes with an fsGroup, a credential of systemd with an
 * access list): up to 0640. What a platform mounts may be readable by all (0444), with a warning: only who is in the
 * mount's container or unit sees it. OpenSSH draws the same line: it asks 0600 of the user's own keys alone.
 */

export interface SecretHolder {
  /** Of the file. */
  readonly owner: number;
  /** Of the file. */
  readonly mode: number;
  /** The user that the process runs as; undefined where the system has none. */
  readonly asker: number | undefined;
}

/** `open` means refused; `mounted` means accepted where a platform has mounted it, and refused elsewhere. */
export type SecretAccess = 'closed' | 'mounted' | 'open';

const root = 0;
const groupAndOthers = 0o077;
const allButGroupReads = 0o037;
const allButReads = 0o033;

export function judgeAccess({ owner, mode, asker }: SecretHolder): SecretAccess {
  if (asker === undefined || (mode & groupAndOthers) === 0) return 'closed';
  if (owner === root && asker !== root && (mode & allButGroupReads) === 0) return 'closed';
  return (mode & allButReads) === 0 ? 'mounted' : 'open';
}

/** True when every user of the machine, or of the container, may read it. */
export function isForAll({ mode }: Pick<SecretHolder, 'mode'>): boolean {
  return (mode & 0o004) !== 0;
}

/** How somebody else hands a secret to this process alone. */
export function handOverHint(asker: number | undefined): string {
  const uid = asker === undefined ? 'UID' : String(asker);
  return `hand it over for this process alone: LoadCredential= of systemd, defaultMode: 0400 of a Kubernetes Secret (with fsGroup: 0440), mode=0400,uid=${uid} of a Docker secret`;
}

/** How a file becomes one that is accepted, for who started the process. */
export function accessHint(path: string, { owner, asker }: SecretHolder): string {
  if (owner === asker || asker === root) return `chmod 600 ${path}`;
  if (owner === root)
    return `it belongs to root and this process runs as user ${asker}; as root: chown ${asker} ${path} && chmod 600 ${path}; or ${handOverHint(asker)}`;
  return `it belongs to user ${owner} and this process runs as user ${asker}; as root: chown ${asker} ${path} && chmod 600 ${path}`;
}

/** `0640`. */
export function formatMode(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}
