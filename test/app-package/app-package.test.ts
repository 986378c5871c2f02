/** App packages: valid manifests, the inputs of the digest, and files that are refused. */
import t, { type Test } from 'tap';
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, rename, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { parseAppManifest } from '../../src/app-package/app-manifest.js';
import { digestOf, packApp, type PackLimits } from '../../src/app-package/app-package.js';
import { isSignedBy, signApp } from '../../src/app-package/app-signature.js';
import { isRollcallError } from '../../src/base/errors.js';
import { generatePrivateKey } from '../../src/identity/private-key.js';
import { makeFolder } from '../harness/folder.js';

const manifest = {
  name: 'digits',
  version: '1.0.0',
  server: 'server.js',
  node: 'lib/node.js',
  config: { rounds: 3, rate: 0.5, label: 'a', verbose: true },
};
const defaultAlgorithm: Readonly<Record<string, string>> = {
  'app.json': JSON.stringify(manifest),
  'server.js': 'export default 1;\n',
  'lib/node.js': 'export default 2;\n',
  'data/weights.bin': '\0\u0001\u0002',
};

async function makeApp(
  test: Test,
  files: Readonly<Record<string, string>> = defaultAlgorithm,
): Promise<string> {
  const folder = await makeFolder(test);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
  return folder;
}

async function refusal(work: () => unknown): Promise<string> {
  try {
    await work();
    return 'taken';
  } catch (error) {
    return isRollcallError(error) ? `${error.code}: ${error.message}` : `not ours: ${String(error)}`;
  }
}

void t.test('a manifest with an unknown, missing or invalid field is refused', async test => {
  test.same(parseAppManifest(JSON.stringify(manifest)), manifest);
  const bare = JSON.stringify(bareWithout('config'));
  test.same(parseAppManifest(bare).config, {}, 'settings may be left out');
  for (const version of ['0.0.0', '10.20.30', '1.0.0-beta.2', '1.0.0-0'])
    test.equal(parseAppManifest(JSON.stringify({ ...manifest, version })).version, version);
  const wrong: readonly (readonly [object | string, RegExp])[] = [
    ['', /no JSON/],
    ['[]', /no object/],
    ['null', /no object/],
    [{ ...manifest, scripts: {} }, /"scripts" is nothing it knows/],
    ['{"__proto__": 1}', /"__proto__" is nothing/],
    [bareWithout('name'), /"name" is missing/],
    [{ ...manifest, name: 'Digits' }, /"name" has the wrong form/],
    [{ ...manifest, name: 'a/../b' }, /"name"/],
    [{ ...manifest, name: 'x'.repeat(64) }, /"name"/],
    ...['1.0', 'v1.0.0', '01.0.0', '1.0.0+5', '1.0.0-', '1.0.0\n', 1].map(
      version => [{ ...manifest, version }, /"version"/] as const,
    ),
    ...['', '/etc/passwd', '../up.js', 'a//b', './a', 'a/.', 'a\\b', 'a\0b', 'x'.repeat(256), 7].map(
      server => [{ ...manifest, server }, /"server"/] as const,
    ),
    [{ ...manifest, config: [] }, /"config" is no object/],
    [{ ...manifest, config: { Rounds: 1 } }, /"Rounds" has the wrong form/],
    [{ ...manifest, config: { rounds: null } }, /type of the setting "rounds"/],
    [{ ...manifest, config: { rounds: [1] } }, /type of the setting "rounds"/],
    [JSON.stringify(manifest).replace('0.5', '1e999'), /type of the setting "rate"/],
    [
      { ...manifest, config: Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`s${n}`, n])) },
      /too much/,
    ],
  ];
  for (const [value, reason] of wrong) {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    const said = await refusal(() => parseAppManifest(text));
    test.match(said, /^REQUEST_INVALID: app.json is not usable/, text.slice(0, 60));
    test.match(said, reason);
  }
});

function bareWithout(member: string): object {
  return Object.fromEntries(Object.entries(manifest).filter(([name]) => name !== member));
}

void t.test('the same files have the same digest, whatever their order, times and modes', async test => {
  const one = await makeApp(test);
  const other = await makeApp(test, Object.fromEntries(Object.entries(defaultAlgorithm).reverse()));
  await utimes(join(other, 'server.js'), 1, 1);
  await chmod(join(other, 'server.js'), 0o755);
  await writeFile(join(other, '.env'), 'SECRET=1');
  await mkdir(join(other, '.git'));
  await writeFile(join(other, '.git', 'HEAD'), 'x');
  await mkdir(join(other, 'empty'));
  const packed = await packApp(one);
  test.same(await packApp(other), packed);
  test.same(packed.manifest, manifest);
  test.same(
    packed.files.map(({ path }) => path),
    ['app.json', 'data/weights.bin', 'lib/node.js', 'server.js'],
  );
  test.equal(packed.sizeBytes, Object.values(defaultAlgorithm).join('').length);
  // Held against another program's SHA-256.
  const said = execFileSync('sha256sum', [join(one, 'server.js')], { encoding: 'utf8' }).split(' ')[0];
  test.equal(packed.files.at(-1)?.digest, said);
  test.equal(digestOf(manifest, [...packed.files].reverse()), packed.digest);
});

void t.test('every change of an app changes its digest', async test => {
  const folder = await makeApp(test);
  const digests = new Set([(await packApp(folder)).digest]);
  const changes: readonly (() => Promise<unknown>)[] = [
    () => writeFile(join(folder, 'server.js'), 'export default 3;\n'),
    () => rename(join(folder, 'data/weights.bin'), join(folder, 'data/w.bin')),
    () => writeFile(join(folder, 'more.txt'), ''),
    () => writeFile(join(folder, 'app.json'), JSON.stringify({ ...manifest, version: '1.0.1' })),
    () =>
      writeFile(join(folder, 'app.json'), JSON.stringify({ ...manifest, name: 'other', version: '1.0.1' })),
  ];
  for (const change of changes) {
    await change();
    const { digest } = await packApp(folder);
    test.notOk(digests.has(digest));
    digests.add(digest);
  }
});

void t.test('different lists of files have different digests', test => {
  const file = fc.record({
    path: fc.string({ minLength: 1, maxLength: 3 }),
    digest: fc.constantFrom('00'.repeat(32), 'ff'.repeat(32)),
    sizeBytes: fc.nat(3),
  });
  const app = fc.record({
    name: fc.constantFrom('a', 'aa'),
    version: fc.constantFrom('1.0.0', 'a1.0.0'),
    files: fc.uniqueArray(file, { maxLength: 3, selector: ({ path }) => path }),
  });
  const spelled = ({ name, version, files }: { name: string; version: string; files: { path: string }[] }) =>
    JSON.stringify([name, version, [...files].sort((a, b) => (a.path < b.path ? -1 : 1))]);
  fc.assert(
    fc.property(app, app, (one, other) => {
      const isSame = digestOf(one, one.files) === digestOf(other, other.files);
      test.ok(isSame === (spelled(one) === spelled(other)));
    }),
    { numRuns: 300 },
  );
  test.end();
});

void t.test('files and folders that cannot be packed are refused by name', async test => {
  const refused = async (
    prepare: (folder: string) => Promise<unknown>,
    limits?: PackLimits,
  ): Promise<string> => {
    const folder = await makeApp(test);
    await prepare(folder);
    return refusal(() => packApp(folder, limits));
  };
  const without = (path: string) =>
    makeApp(test, Object.fromEntries(Object.entries(defaultAlgorithm).filter(([each]) => each !== path)));
  test.match(await refusal(async () => packApp(await without('app.json'))), /no app: there is no app.json/);
  test.match(await refusal(async () => packApp(await without('server.js'))), /server.js is not there/);
  test.match(await refusal(async () => packApp(await without('lib/node.js'))), /lib\/node.js is not there/);
  test.match(
    await refusal(() => packApp('/nowhere/at/all')),
    /FILE_UNREADABLE: .*there is no such file or folder/,
  );
  test.match(
    await refused(folder => symlink('/etc/passwd', join(folder, 'lib/more.js'))),
    /lib\/more.js is no plain file/,
  );
  test.match(await refused(folder => symlink('..', join(folder, 'up'))), /up is no plain file/);
  test.match(
    await refused(folder => Promise.resolve(execFileSync('mkfifo', [join(folder, 'pipe')]))),
    /pipe is no plain file/,
  );
  test.match(await refused(folder => writeFile(join(folder, 'a\nb'), '')), /"a\\nb" cannot travel/);
  test.match(
    await refused(folder => writeFile(join(folder, 'Server.js'), '')),
    /are one file on some machines/,
  );
  test.match(
    await refused(folder => writeFile(join(folder, 'big'), 'x'.repeat(500)), { files: 9, bytes: 400 }),
    /too large/,
  );
  test.match(await refused(() => Promise.resolve(), { files: 2, bytes: 9_000 }), /more than 2 files/);
  test.match(
    await refused(folder => writeFile(join(folder, 'app.json'), `{"a":"${'x'.repeat(70_000)}"}`)),
    /app.json .*too large/,
  );
});

void t.test('the signature of an app covers its name, version, digest and key', async test => {
  const [key, other] = [generatePrivateKey('P-256'), generatePrivateKey('P-256')];
  const app = { name: 'digits', version: '1.0.0', digest: 'ab'.repeat(32) };
  const signature = signApp(key, app);
  test.ok(await isSignedBy(key.publicKey, app, signature));
  test.notOk(await isSignedBy(other.publicKey, app, signature));
  for (const change of [{ name: 'digit' }, { version: '1.0.1' }, { digest: 'ac'.repeat(32) }])
    test.notOk(await isSignedBy(key.publicKey, { ...app, ...change }, signature));
  test.notOk(await isSignedBy(key.publicKey, { ...app, name: 'digit', version: 's1.0.0' }, signature));
  for (const bad of [Buffer.of(), signature.subarray(1), Buffer.concat([signature, Buffer.of(0)])])
    test.notOk(await isSignedBy(key.publicKey, app, bad));
  const tall = generatePrivateKey('P-384');
  test.match(await refusal(() => signApp(tall, app)), /KEY_UNSUPPORTED: apps are signed by a key on P-256/);
  test.notOk(await isSignedBy(tall.publicKey, app, tall.sign(Buffer.from('x'))));
  test.match(await refusal(() => signApp(key, { ...app, digest: 'AB' })), /REQUEST_INVALID/);
});
