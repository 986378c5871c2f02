/** Messages about files that the system refuses, and the rule for secret files: in process, and as another user. */
import { spawn } from 'node:child_process';
import { chmod, chown, copyFile, mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { fileError, toRollcallError } from '../../src/base/errors.js';
import { isSecretMount, parseMounts } from '../../src/base/mounts.js';
import { judgeAccess } from '../../src/base/secret-access.js';
import {
  makeSecretFolder,
  readSecretFile,
  readSmallFile,
  writeWholeFile,
} from '../../src/base/secret-file.js';
import { statusOf } from '../../src/link/doors/grpc/call-end.js';
import { publicError } from '../../src/link/doors/public-error.js';
import { openLevelStore } from '../../src/store/level.js';
import { command, root } from '../../scripts/running.js';
import { ended, type Said } from '../cli/fixtures/shell.js';
import { makeFolder } from '../harness/folder.js';
import { mountSmallDisk } from '../harness/tmpfs.js';
import { writeCertificates } from '../harness/test-link.js';

const codes = [
  'EACCES',
  'EPERM',
  'EROFS',
  'ENOSPC',
  'EDQUOT',
  'EMFILE',
  'ENFILE',
  'ENOTDIR',
  'EISDIR',
  'ELOOP',
];
const more = ['ENAMETOOLONG', 'EXDEV', 'EBUSY', 'EIO', 'ESTALE', 'EFBIG', 'ENOENT', 'ENOTEMPTY', 'EOVERFLOW'];

function systemError(code: string, syscall: string, path?: string): Error {
  return Object.assign(new Error(`${code}: ${syscall}`), {
    code,
    syscall,
    ...(path !== undefined && { path }),
  });
}

void t.test('every error of the file system is reported with its file and its reason', async t => {
  for (const code of [...codes, ...more]) {
    const { code: told, message, cause } = toRollcallError(systemError(code, 'open', '/x/y'));
    t.match(message, /^cannot open \/x\/y: \S/, code);
    t.match(told, /^FILE_UN(READ|WRIT)ABLE$/, code);
    t.match(cause, { code });
  }
  const folder = await makeFolder(t);
  const file = join(folder, 'file');
  await writeFile(file, '');
  await symlink('circle', join(folder, 'circle'));
  const refusals: readonly (readonly [RegExp, () => Promise<unknown>])[] = [
    [/cannot open .*: there is no such file or folder$/, () => open(join(folder, 'nothing'))],
    [
      /cannot list .*: part of the path is not a folder$/,
      () => import('node:fs/promises').then(fs => fs.readdir(join(file, 'x'))),
    ],
    [/cannot open .*: its symbolic links lead in a circle/, () => open(join(folder, 'circle'))],
    [/cannot make the folder .*: the name is too long$/, () => mkdir(join(folder, 'x'.repeat(300)))],
    // Newer Node.js names it.
    [/cannot read (a file|\/.*): it is a folder$/, () => readFile(folder)],
  ];
  for (const [pattern, attempt] of refusals) {
    const thrown = await attempt().catch((error: unknown) => error);
    t.match(toRollcallError(thrown).message, pattern);
  }
  t.equal(toRollcallError(systemError('ENOSPC', 'write')).message, 'cannot write a file: the disk is full');
});

void t.test('errors of sockets and faults of the program are not reported as file errors', t => {
  for (const thrown of [
    systemError('EACCES', 'listen'),
    systemError('ENOENT', 'connect', '/x'),
    new Error('x'),
  ])
    t.equal(toRollcallError(thrown).code, 'INTERNAL');
  t.end();
});

void t.test('peers learn that the disk is full, or to try later, without the path of a file', t => {
  const full = fileError('write', '/srv/link/token-keys', systemError('ENOSPC', 'write'));
  const denied = fileError('write', '/srv/link/token-keys', systemError('EACCES', 'open'));
  t.match(publicError(full), { code: 'STORE_FULL', message: /disk of the link is full/, cause: full });
  t.match(publicError(denied), { code: 'STORE_UNAVAILABLE', cause: denied });
  for (const error of [full, denied]) {
    t.notMatch(`${publicError(error).message} ${publicError(error).hint}`, '/srv');
    t.notMatch(JSON.stringify([statusOf(error).details, statusOf(error).metadata.getMap()]), /srv|FILE_/);
  }
  t.end();
});

void t.test('a file that cannot be written and a folder that cannot be made report the reason', async t => {
  const folder = await makeFolder(t);
  const file = join(folder, 'file');
  await writeWholeFile(file, 'x');
  await t.rejects(writeWholeFile(file, 'y'), { code: 'FILE_EXISTS', message: `${file} exists already` });
  await t.rejects(writeWholeFile(join(folder, 'none', 'file'), 'x'), {
    code: 'FILE_UNWRITABLE',
    message: /^cannot write .*none\/file: there is no such folder$/,
  });
  await makeSecretFolder(join(folder, 'a', 'b'));
  await makeSecretFolder(join(folder, 'a', 'b'));
  await t.rejects(makeSecretFolder(file, 'data folder', '--data-dir'), {
    code: 'FILE_UNWRITABLE',
    message: `cannot make the data folder ${file}: a file is in its place`,
    hint: '--data-dir names another one',
  });
  await t.rejects(makeSecretFolder(join(file, 'below')), { message: /: part of the path is not a folder$/ });
  await t.rejects(readSmallFile(folder, 'token'), { message: /^cannot read the token .*: it is a folder$/ });
});

void t.test('a database that cannot be opened reports its path and the reason', async t => {
  const folder = join(await makeFolder(t), 'store');
  await mkdir(join(folder, 'LOCK'), { recursive: true });
  await t.rejects(openLevelStore(folder), {
    code: 'STORE_UNAVAILABLE',
    message: `cannot open the database ${folder}: it is a folder`,
  });
});

const [self, other] = [1000, 1001];

void t.test('the permissions of a secret file are judged by owner, mode and reader', t => {
  const verdicts: readonly (readonly [owner: number, mode: number, asker: number, verdict: string])[] = [
    [self, 0o600, self, 'closed'],
    [self, 0o400, self, 'closed'],
    [self, 0o640, self, 'mounted'],
    [self, 0o620, self, 'open'],
    [self, 0o602, self, 'open'],
    [0, 0o400, self, 'closed'],
    [0, 0o440, self, 'closed'],
    [0, 0o640, self, 'closed'],
    [0, 0o660, self, 'open'],
    [0, 0o444, self, 'mounted'],
    [0, 0o644, self, 'mounted'],
    [0, 0o646, self, 'open'],
    [other, 0o640, self, 'mounted'],
    [other, 0o660, self, 'open'],
    [0, 0o600, 0, 'closed'],
    [0, 0o640, 0, 'mounted'],
    [0, 0o444, 0, 'mounted'],
    [other, 0o600, 0, 'closed'],
  ];
  for (const [owner, mode, asker, verdict] of verdicts)
    t.equal(
      judgeAccess({ owner, mode, asker }),
      verdict,
      `mode ${mode.toString(8)} of ${owner}, read by ${asker}`,
    );
  t.equal(judgeAccess({ owner: 0, mode: 0o666, asker: undefined }), 'closed', 'no users');
  t.end();
});

void t.test('a mount of secrets by a platform is distinguished from a folder open to all users', t => {
  const mounts = parseMounts(
    [
      '1 0 0:1 / / rw,relatime - overlay overlay rw',
      '2 1 0:2 / /dev/shm rw,nosuid - tmpfs shm rw',
      '3 1 0:3 / /tmp rw - tmpfs tmpfs rw',
      '4 1 0:4 / /run rw - tmpfs tmpfs rw',
      '5 1 0:5 / /etc/keys\\040of\\040k8s ro,relatime - tmpfs tmpfs rw',
      '6 1 8:1 /home/x/key /run/secrets/server_key ro,relatime - ext4 /dev/sda1 rw',
      '7 1 8:1 /home/x/keys /keys ro,relatime shared:1 - ext4 /dev/sda1 rw',
      '8 1 0:6 / /run/user/1000 rw - tmpfs tmpfs rw',
      '9 1 0:7 / /run/credentials/link.service ro - ramfs ramfs rw',
      '10 1 8:2 / /data rw - ext4 /dev/sdb1 rw',
      '11 1 0:8 / /gone rw - tmpfs tmpfs rw',
      '12 1 8:2 / /gone rw - ext4 /dev/sdb1 rw',
    ].join('\n'),
  );
  for (const path of [
    '/etc/keys of k8s/..2026_01/key',
    '/run/secrets/server_key',
    '/keys/key',
    '/run/credentials/link.service/key',
  ])
    t.ok(isSecretMount(path, mounts), path);
  for (const path of [
    '/key',
    '/tmp/key',
    '/dev/shm/key',
    '/run/key',
    '/run/user/1000/key',
    '/data/key',
    '/keys/below/key',
    '/gone/key',
    '/run/secrets/server_key2',
  ])
    t.notOk(isSecretMount(path, mounts), path);
  t.ok(isSecretMount('/run/credentials/agent.service/key', []), 'where systemd may not mount');
  t.same(parseMounts(''), []);
  t.end();
});

void t.test(
  'a secret that others can read is refused in an ordinary folder, and wherever no warning can be logged',
  async t => {
    const path = join(await makeFolder(t), 'key');
    await writeFile(path, 'x', { mode: 0o644 });
    const warnings: string[] = [];
    await t.rejects(
      readSecretFile(path, 'server key', 10, message => warnings.push(message)),
      {
        code: 'FILE_PERMISSIONS',
        message: `the server key ${path} can be read by others (mode 0644)`,
        hint: `chmod 600 ${path}`,
      },
    );
    t.same(warnings, []);
  },
);

const nobody = 65_534;
const isRoot = process.geteuid?.() === 0;

/** The command, as a user who is not root. Undefined where such a user cannot read the command. */
async function runAsNobody(words: readonly string[], cwd: string): Promise<Said> {
  const user = isRoot ? { uid: nobody, gid: nobody } : {};
  const child = spawn(process.execPath, [command, ...words], {
    ...user,
    cwd,
    env: { PATH: process.env['PATH'], ROLLCALL_CONFIG_HOME: '/nonexistent/rollcall' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return ended(child);
}

async function canRunAsNobody(): Promise<boolean> {
  return runAsNobody(['--version'], '/').then(
    ({ code }) => code === 0,
    () => false,
  );
}

const cannot = (await canRunAsNobody()) ? false : `another user cannot run ${process.execPath} in ${root}`;
const needsRoot = isRoot ? cannot : 'only root can make a file of root';

/** A folder that all may enter, and the flags of a link whose certificates lie there. */
async function prepare(t: Test): Promise<{ folder: string; flags: string[]; key: string }> {
  const folder = await makeFolder(t);
  await chmod(folder, 0o755);
  await writeCertificates(folder);
  const key = join(folder, 'link.key');
  await copyFile(join(folder, 'server.key'), key);
  if (isRoot) await chown(key, nobody, nobody);
  await chmod(key, 0o600);
  await chmod(join(folder, 'ca.crt'), 0o644);
  await chmod(join(folder, 'server.pem'), 0o644);
  const flags = ['--ssl-ca-certfile', join(folder, 'ca.crt'), '--ssl-certfile', join(folder, 'server.pem')];
  return { folder, flags: ['link', ...flags, '--ssl-keyfile', key], key };
}

void t.test(
  'link, node and command report a folder that their user may not write',
  { skip: cannot },
  async t => {
    const { folder, flags, key } = await prepare(t);
    if (!isRoot) await chmod(folder, 0o555);
    const uid = isRoot ? nobody : process.geteuid?.();
    const link = await runAsNobody(flags, folder);
    t.equal(link.code, 2);
    t.equal(
      link.stderr,
      `error: cannot make the data folder ${join(folder, 'link-data')}: permission denied\n` +
        `hint: this process runs as user ${uid}: give that user the right to it; --data-dir names another one\n`,
    );
    const checked = await runAsNobody([...flags, '--check-config'], folder);
    t.match(checked, { code: 2, stderr: `cannot write to ${folder}: permission denied` });
    const node = await runAsNobody(
      [
        'node',
        '--link',
        '127.0.0.1:1',
        '--root-certificates',
        join(folder, 'ca.crt'),
        '--auth-private-key',
        key,
        '--state-dir',
        's',
        '--log-level',
        'silent',
      ],
      folder,
    );
    t.match(node, {
      code: 2,
      stderr: /^error: cannot make the state folder .*\/s: permission denied\nhint: .*--state-dir/,
    });
    const kept = await runAsNobody(['app', 'keygen', '--output', join(folder, 'k')], folder);
    t.match(kept, {
      code: 2,
      stderr: /^error: cannot write .*\/k: permission denied\nhint: this process runs as user/,
    });
    if (!isRoot) await chmod(folder, 0o755);
  },
);

void t.test(
  "root's secret, readable by a group, is accepted by another user",
  { skip: needsRoot },
  async t => {
    const { folder, flags, key } = await prepare(t);
    const data = join(folder, 'data');
    await mkdir(data);
    await chown(data, nobody, nobody);
    const check = (): Promise<Said> => runAsNobody([...flags, '--data-dir', data, '--check-config'], folder);
    await chown(key, 0, nobody);
    for (const mode of [0o440, 0o640]) {
      await chmod(key, mode);
      t.same(await check(), { code: 0, stdout: 'the configuration is good\n', stderr: '' }, mode.toString(8));
    }
    const handOver =
      /LoadCredential= of systemd, defaultMode: 0400 .*, mode=0400,uid=65534 of a Docker secret/;
    await chmod(key, 0o444);
    const open = await check();
    t.match(open, {
      code: 2,
      stderr: 'can be read by others (mode 0444) (it belongs to root and this process runs as user 65534',
    });
    t.match(open.stderr, handOver);
    await chmod(key, 0o400);
    const closed = await check();
    t.match(closed, { code: 2, stderr: /cannot read the server key .*: permission denied/ });
    t.match(closed.stderr, handOver);
    const disk = await mountSmallDisk(t, 1024 * 1024);
    if (!disk) {
      t.comment('mounting is not allowed here');
      return;
    }
    await chmod(join(disk.folder, '..'), 0o755);
    await chmod(disk.folder, 0o755);
    const mounted = join(disk.folder, 'key');
    await copyFile(key, mounted);
    await chmod(mounted, 0o444);
    const warned = await runAsNobody(
      [...flags, '--ssl-keyfile', mounted, '--data-dir', data, '--check-config'],
      folder,
    );
    t.match(warned, { code: 0, stdout: 'the configuration is good\n' });
    t.match(
      warned.stderr,
      new RegExp(`^warning: the server key ${mounted} can be read by others \\(mode 0444\\) \\(`),
    );
    t.match(warned.stderr, handOver);
  },
);

void t.test('several processes can make the same folders at once', async t => {
  const folder = await makeFolder(t);
  for (let round = 0; round < 20; round += 1) {
    const below = join(folder, `${round}`, 'state');
    await Promise.all(['1', '2', '3', '4'].map(name => makeSecretFolder(join(below, name))));
  }
  t.pass('none was refused');
});
