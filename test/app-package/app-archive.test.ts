/** Archives: packing and reading, the same bytes for the same files, and refusal of invalid archives. */
import t, { type Test } from 'tap';
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { packArchive, readArchive } from '../../src/app-package/app-archive.js';
import { languageOf, parseAppManifest } from '../../src/app-package/app-manifest.js';
import { packApp } from '../../src/app-package/app-package.js';
import { isRollcallError } from '../../src/base/errors.js';
import { makeFolder } from '../harness/folder.js';

const manifest = { name: 'digits', version: '1.0.0', server: 'server.js', node: 'lib/node.py' };
const defaultAlgorithm: Readonly<Record<string, string>> = {
  'app.json': JSON.stringify(manifest),
  'lib/node.py': 'import rollcall_app\n',
  'grüße.txt': '',
  'server.js': 'export default 1;\n',
};

async function makeApp(test: Test, files = defaultAlgorithm): Promise<string> {
  const folder = await makeFolder(test);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
  return folder;
}

function refusal(work: () => unknown): string {
  try {
    work();
    return 'taken';
  } catch (error) {
    return isRollcallError(error) ? `${error.code}: ${error.message}` : `not ours: ${String(error)}`;
  }
}

/** An archive by hand, so that it may be wrong. */
function writeArchive(
  files: readonly (readonly [string, string])[],
  change: (list: string) => string = same,
): Buffer {
  const list = files.map(([path, content]) => ({
    path,
    digest: createHash('sha256').update(content).digest('hex'),
    sizeBytes: Buffer.byteLength(content),
  }));
  const text = Buffer.from(change(JSON.stringify(list)));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text, ...files.map(([, content]) => Buffer.from(content))]);
}

function same(list: string): string {
  return list;
}

/** In the order of their paths' bytes. */
const entries = Object.entries(defaultAlgorithm).sort(([one], [other]) =>
  Buffer.compare(Buffer.from(one), Buffer.from(other)),
);
const withFile = (path: string, content = ''): (readonly [string, string])[] =>
  [...entries, [path, content] as const].sort(([one], [other]) =>
    Buffer.compare(Buffer.from(one), Buffer.from(other)),
  );

void t.test('reading a packed archive gives the package and its files', async test => {
  const folder = await makeApp(test);
  const { app, archive } = await packArchive(folder);
  test.same(app, await packApp(folder), 'the package is the same as without an archive');
  const read = readArchive(archive);
  test.equal(read.digest, app.digest);
  test.same(read.manifest, { ...manifest, config: {} });
  test.same(
    read.files.map(({ path, content }) => [path, content.toString()]),
    entries,
  );
  test.ok(writeArchive(entries).equals(archive), 'the bytes are those of the documentation');
  const twin = await packArchive(
    await makeApp(test, Object.fromEntries(Object.entries(defaultAlgorithm).reverse())),
  );
  test.ok(twin.archive.equals(archive), 'the same files make the same bytes');
});

void t.test('bytes that are not a valid archive are refused', test => {
  const good = writeArchive(entries);
  const wrong: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.alloc(0), /ends too soon/],
    [Buffer.alloc(4), /no JSON/],
    [Buffer.from([255, 255, 255, 255, 0]), /length of its list/],
    [Buffer.from([0, 0, 32, 0, 0]), /length of its list/],
    [good.subarray(0, good.length - 1), /ends too soon/],
    [Buffer.concat([good, Buffer.of(0)]), /something follows/],
    [writeArchive(entries, () => '{}'), /does not name files/],
    [writeArchive(entries, () => '[null]'), /does not name files/],
    [writeArchive(entries, list => `${list} `), /spelled in another way/],
    [writeArchive(entries, list => list.replace('"path"', '"more":1,"path"')), /spelled in another way/],
    [writeArchive(entries, list => list.replace(/"digest":"../, '"digest":"AB')), /does not name files/],
    [writeArchive(entries, list => list.replace(/"digest":"..../, '"digest":"abab')), /another content/],
    [writeArchive(entries, list => list.replace(/"sizeBytes":\d+/, '"sizeBytes":-1')), /does not name files/],
    [writeArchive(entries, list => list.replace(/"sizeBytes":\d+/, '"sizeBytes":1e15')), /spelled|more than/],
    [writeArchive([...entries].reverse()), /not in order/],
    [writeArchive([...entries, ...entries.slice(-1)]), /not in order/],
    ...['../up', '/etc/passwd', 'a//b', 'a\\b', './a', 'a\0', '.git/HEAD', 'a/.env', 'x'.repeat(256)].map(
      path => [writeArchive(withFile(path)), /does not name files/] as const,
    ),
    [writeArchive(withFile('Server.js')), /one file on some machines/],
    [writeArchive(withFile('gru\u0308ße.txt')), /one file on some machines/],
    [writeArchive(withFile('server.js/more')), /server.js and server.js\/more are one file/],
    [writeArchive(withFile('LIB')), /LIB and lib\/node.py are one file/],
    [writeArchive(entries.filter(([path]) => path !== 'app.json')), /no app.json in it/],
    [writeArchive(entries.filter(([path]) => path !== 'server.js')), /server.js, which app.json names/],
    [writeArchive(entries.filter(([path]) => path !== 'lib/node.py')), /lib\/node.py, which app.json/],
    [writeArchive([['app.json', ' '.repeat(70_000)]]), /app.json is too large/],
    [writeArchive([['app.json', '{}']]), /app.json is not usable/],
  ];
  for (const [archive, reason] of wrong) {
    const said = refusal(() => readArchive(archive));
    test.match(said, /^REQUEST_INVALID: /, reason.source);
    test.match(said, reason);
  }
  test.match(
    refusal(() => readArchive(good, { files: 3, bytes: 9_000 })),
    /more than 3 files/,
  );
  test.match(
    refusal(() => readArchive(good, { files: 9, bytes: 20 })),
    /more than 20 bytes/,
  );
  test.end();
});

void t.test('a change of any octet of an archive is detected', test => {
  const good = writeArchive(entries);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(good);
      changed[at] = (changed[at] ?? 0) ^ change;
      const read = refusal(() => {
        // A name may become another: then it is another app.
        if (readArchive(changed).digest !== readArchive(good).digest) throw new Error('another app');
      });
      test.match(read, /REQUEST_INVALID|another app/);
    }),
    { numRuns: 500, seed: 7 },
  );
  test.end();
});

void t.test('each half of an app is in JavaScript or Python, and other languages are refused', test => {
  const said = (change: object): string =>
    refusal(() => parseAppManifest(JSON.stringify({ ...manifest, ...change })));
  for (const half of ['server', 'node']) {
    for (const entry of ['a.js', 'b/a.mjs', 'a.b.py']) test.equal(said({ [half]: entry }), 'taken');
    for (const entry of ['node', 'node.ts', 'node.PY', '.py', 'a/.js', 'node.py/x'])
      test.match(
        said({ [half]: entry }),
        new RegExp(`REQUEST_INVALID: .*"${half}" is in no language`),
        entry,
      );
  }
  test.same(['a.js', 'a.mjs', 'a.py'].map(languageOf), ['javascript', 'javascript', 'python']);
  test.end();
});
