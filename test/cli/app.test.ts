/** `rollcall app`: keys of authors, and what an app consists of, as people and machines read it. */
import t from 'tap';
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packApp } from '../../src/app-package/app-package.js';
import { isSignedBy, signApp } from '../../src/app-package/app-signature.js';
import { readPrivateKey, readPublicKey } from '../../src/identity/key-file.js';
import { makeFolder } from '../harness/folder.js';
import { run } from './fixtures/shell.js';

const folder = await makeFolder(t);
const app = join(folder, 'hello');
await mkdir(app);
await writeFile(
  join(app, 'app.json'),
  JSON.stringify({ name: 'hello', version: '0.1.0', server: 's.js', node: 'n.js', config: { times: 2 } }),
);
await writeFile(join(app, 's.js'), '');
await writeFile(join(app, 'n.js'), '');

void t.test('an app key is created once, private to its owner, in a form that other tools read', async t => {
  const home = join(folder, 'home');
  const environment = { ROLLCALL_CONFIG_HOME: home };
  const made = await run(['app', 'keygen', '--json'], { environment });
  t.match(made, { code: 0, stderr: '' });
  const { privateKey, publicKey, fingerprint } = JSON.parse(made.stdout) as Record<string, string>;
  t.same([privateKey, publicKey], [join(home, 'app-key'), join(home, 'app-key.pub')]);
  t.equal((await stat(privateKey ?? '')).mode & 0o777, 0o600);
  t.equal((await stat(home)).mode & 0o777, 0o700);
  t.match(execFileSync('ssh-keygen', ['-lf', publicKey ?? ''], { encoding: 'utf8' }), fingerprint);
  const key = readPrivateKey(await readFile(privateKey ?? ''));
  const signed = { name: 'a', version: '1.0.0', digest: '00'.repeat(32) };
  const trusted = readPublicKey(await readFile(publicKey ?? ''));
  t.ok(await isSignedBy(trusted, signed, signApp(key, signed)));

  const again = await run(['app', 'keygen'], { environment });
  t.match(again, { code: 2, stdout: '', stderr: /app-key exists already\nhint: .*--output/ });
  const elsewhere = await run(['app', 'keygen', '--output', join(folder, 'other')], { environment });
  t.match(elsewhere, {
    code: 0,
    stdout: /^✅ App key made\.\n {3}Private key {2}.*other\n/,
    stderr: /give the \.pub file/,
  });
  t.notMatch(elsewhere.stdout + made.stdout, /PRIVATE KEY/);
});

void t.test('app pack lists the files of an app, and names its errors', async t => {
  const { digest } = await packApp(app);
  const shown = await run(['app', 'pack', app]);
  t.same(shown, {
    code: 0,
    stdout: `✅ hello 0.1.0 is ready to run.
   Digest       ${digest}
   Files        3, 85 bytes
   Server half  s.js
   Node half    n.js
   Settings     times=2
`,
    stderr: '',
  });
  const json = JSON.parse((await run(['app', 'pack', app, '--json', '--files'])).stdout) as object;
  t.match(json, { digest, sizeBytes: 85, files: [{ path: 'app.json' }, { path: 'n.js' }, { path: 's.js' }] });
  t.match(
    (await run(['app', 'pack', app, '--files'])).stdout,
    /^File +Bytes +SHA-256\napp.json +85 +[0-9a-f]{64}$/m,
  );
  t.match(await run(['app', 'pack', folder]), {
    code: 2,
    stderr: /^error: this folder is no app: .*\nhint: /,
  });
  t.match(await run(['app', 'pack', join(folder, 'nowhere')]), {
    code: 2,
    stderr: /^error: cannot read .*: there is no such file or folder/,
  });
});
