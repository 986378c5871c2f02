/** What the programs say of files that the system refuses: in process, and as another user. */
import { spawn } from 'node:child_process';
import { chmod, chown, copyFile, mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { fileError, toRollcallError } from '../../src/base/errors.js';
import { makeSecretFolder, readSmallFile, writeWholeFile } from '../../src/base/secret-file.js';
import { statusOf, toldOutside } from '../../src/link/doors/grpc/call-end.js';
import { openLevelStore } from '../../src/store/level.js';
import { command, root } from '../../scripts/running.js';
import { ended, type Said } from '../cli/fixtures/shell.js';
import { makeFolder } from '../harness/folder.js';
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

void t.test('an error of the file system is told with its file and its reason, whichever it is', async t => {
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
    [/cannot read a file: it is a folder$/, () => readFile(folder)],
  ];
  for (const [pattern, attempt] of refusals) {
    const thrown = await attempt().catch((error: unknown) => error);
    t.match(toRollcallError(thrown).message, pattern);
  }
  t.equal(toRollcallError(systemError('ENOSPC', 'write')).message, 'cannot write a file: the disk is full');
});

void t.test('an error of a socket, and a fault of the program, are not told as one of a file', t => {
  for (const thrown of [
    systemError('EACCES', 'listen'),
    systemError('ENOENT', 'connect', '/x'),
    new Error('x'),
  ])
    t.equal(toRollcallError(thrown).code, 'INTERNAL');
  t.end();
});

void t.test('peers hear that the disk is full, or to try later; no file of the link is named to them', t => {
  const full = fileError('write', '/srv/link/token-keys', systemError('ENOSPC', 'write'));
  const denied = fileError('write', '/srv/link/token-keys', systemError('EACCES', 'open'));
  t.match(toldOutside(full), { code: 'STORE_FULL', message: /disk of the link is full/, cause: full });
  t.match(toldOutside(denied), { code: 'STORE_UNAVAILABLE', cause: denied });
  for (const error of [full, denied]) {
    t.notMatch(`${toldOutside(error).message} ${toldOutside(error).hint}`, '/srv');
    t.notMatch(JSON.stringify([statusOf(error).details, statusOf(error).metadata.getMap()]), /srv|FILE_/);
  }
  t.end();
});

void t.test('a file that cannot be written, and a folder that cannot be made, say why', async t => {
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

void t.test('a database that cannot be opened says where it is and why', async t => {
  const folder = join(await makeFolder(t), 'store');
  await mkdir(join(folder, 'LOCK'), { recursive: true });
  await t.rejects(openLevelStore(folder), {
    code: 'STORE_UNAVAILABLE',
    message: `cannot open the database ${folder}: it is a folder`,
  });
});

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
  return (await runAsNobody(['--version'], '/')).code === 0;
}

const cannot = (await canRunAsNobody()) ? false : `another user cannot read ${root}`;

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
  'a user who may not write its folder is told so by link, node and command',
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
    t.match(checked, { code: 2, stderr: `cannot write to ${folder}` });
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
