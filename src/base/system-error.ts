/**
 * Explains the refusal of a file by the operating system so that a person can act on it: by the code and the system
 * call that Node.js names, or, where a library hands on the words of strerror(3) alone (LevelDB), by those. Errors of
 * sockets are told where they are opened.
 */

export interface SystemRefusal {
  /** `ENOSPC`. */
  readonly code: string;
  /** `the disk is full`. */
  readonly reason: string;
  readonly hint: string | undefined;
}

interface Kind {
  readonly reason: string;
  readonly hint?: string | (() => string);
  /** In glibc and musl. */
  readonly words: RegExp;
}

const kinds: Readonly<Record<string, Kind>> = {
  ENOENT: { reason: 'there is no such file or folder', words: /no such file or directory/i },
  EACCES: { reason: 'permission denied', hint: rightHint, words: /permission denied/i },
  EPERM: { reason: 'the system does not allow it', hint: rightHint, words: /operation not permitted/i },
  EROFS: {
    reason: 'the file system is read-only',
    hint: 'choose a place that can be written, or mount this one for writing',
    words: /read-only file system/i,
  },
  ENOSPC: {
    reason: 'the disk is full',
    hint: 'free space there: df -h shows what is left, df -i how many files',
    words: /no space left on device/i,
  },
  EDQUOT: {
    reason: 'the disk quota of this user is used up',
    hint: 'free space, or have the quota raised',
    words: /quota exceeded/i,
  },
  EFBIG: {
    reason: 'the file would be larger than is allowed here',
    hint: 'raise the limit of file sizes: ulimit -f, or LimitFSIZE= of systemd',
    words: /file too large/i,
  },
  EMFILE: {
    reason: 'this process has too many files open',
    hint: 'raise the limit of open files: ulimit -n, or LimitNOFILE= of systemd',
    words: /(too many open files|no file descriptors available)(?! in system)/i,
  },
  ENFILE: {
    reason: 'this machine has too many files open',
    hint: 'raise fs.file-max, or stop what holds so many',
    words: /too many open files in system/i,
  },
  EISDIR: { reason: 'it is a folder', hint: 'name a file', words: /is a directory/i },
  ENOTDIR: {
    reason: 'part of the path is not a folder',
    hint: 'move the file away that is in its way',
    words: /not a directory/i,
  },
  ELOOP: {
    reason: 'its symbolic links lead in a circle, or a link stands where none may be',
    hint: 'namei -l PATH shows where each link leads',
    words: /too many (levels of )?symbolic links|symbolic link loop/i,
  },
  ENAMETOOLONG: {
    reason: 'the name is too long',
    hint: 'a name has at most 255 bytes, a path 4095',
    words: /file ?name too long/i,
  },
  EXDEV: {
    reason: 'the old and the new place are on different file systems',
    hint: 'mount the folder as a whole, not single files or folders in it',
    words: /(invalid )?cross-device link/i,
  },
  EBUSY: {
    reason: 'it is in use',
    hint: 'a single file that is mounted into a container cannot be replaced: mount its folder',
    words: /(device or )?resource busy/i,
  },
  EEXIST: { reason: 'it exists already', hint: 'give another name', words: /file exists/i },
  ENOTEMPTY: { reason: 'the folder is not empty', hint: 'give another name', words: /directory not empty/i },
  ETXTBSY: { reason: 'a program runs from it', words: /text file busy/i },
  EIO: {
    reason: 'the disk reports an error',
    hint: 'look at the log of the kernel: dmesg',
    words: /(input\/output|i\/o) error/i,
  },
  ESTALE: {
    reason: 'its network file system has lost it',
    hint: 'mount it again',
    words: /stale (nfs )?file handle/i,
  },
};

function rightHint(): string {
  const user = process.geteuid?.();
  return user === undefined
    ? 'give this user the right to it'
    : `this process runs as user ${user}: give that user the right to it`;
}

/** The action of a program, by the system call that Node.js names. Other calls are not about a file. */
const doings: Readonly<Record<string, string>> = {
  access: 'use',
  appendfile: 'write',
  chmod: 'change the mode of',
  chown: 'change the owner of',
  copyfile: 'copy',
  fchmod: 'change the mode of',
  fchown: 'change the owner of',
  fdatasync: 'write',
  fstat: 'look at',
  fsync: 'write',
  ftruncate: 'write',
  lchown: 'change the owner of',
  link: 'make a link to',
  lstat: 'look at',
  lutime: 'write',
  mkdir: 'make the folder',
  mkdtemp: 'make the folder',
  open: 'open',
  opendir: 'list',
  read: 'read',
  readlink: 'look at',
  realpath: 'look at',
  rename: 'rename',
  rm: 'remove',
  rmdir: 'remove',
  scandir: 'list',
  stat: 'look at',
  statfs: 'look at',
  symlink: 'make a link at',
  unlink: 'remove',
  write: 'write',
};

/** The refusal with this code; a code that is not known here is its own reason. */
export function refusalOf(code: string): SystemRefusal {
  const kind = Object.hasOwn(kinds, code) ? kinds[code] : undefined;
  const { reason, hint } = kind ?? { reason: code, hint: undefined };
  return { code, reason, hint: typeof hint === 'function' ? hint() : hint };
}

/** The file and the action that the system refused. Undefined for an error that is not about a file. */
export function findFileCall(error: unknown): { readonly doing: string; readonly path: string } | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined || !Object.hasOwn(doings, syscall)) return undefined;
  // An error on an open file does not name it.
  return { doing: doings[syscall] ?? syscall, path: path ?? 'a file' };
}

/** The cause of a refused file: by the code of the error or of what caused it, or by the words of a library. */
export function findRefusal(error: unknown): SystemRefusal | undefined {
  for (let each = error, depth = 0; each instanceof Error && depth < 5; each = each.cause, depth++) {
    const { message, code } = each as NodeJS.ErrnoException;
    const known =
      code !== undefined && Object.hasOwn(kinds, code)
        ? code
        : Object.keys(kinds).find(name => kinds[name]?.words.test(message));
    if (known !== undefined) return refusalOf(known);
  }
  return undefined;
}

/** Nothing more can be written, whatever is tried. */
export function isDiskFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(findRefusal(error)?.code ?? '');
}
