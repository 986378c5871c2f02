/** Contents in Python are those of TypeScript: the same bytes are taken, refused, and written. */
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  decodeContent,
  encodeContent,
  NumberArray,
  type Content,
  type ContentValue,
} from '../../../src/app/content.js';

const folder = join(import.meta.dirname, '../../../python');
const hasPython = spawnSync('python3', ['--version']).status === 0;
const skip = !hasPython && 'there is no python3 here';

/** Gives what the script prints, line by line. */
function runPython(script: string, lines: readonly string[] = []): string[] {
  const begin = `import sys\nsys.dont_write_bytecode = True\nsys.path.insert(0, ${JSON.stringify(folder)})\n`;
  const { status, stdout, stderr } = spawnSync('python3', ['-c', begin + script], {
    input: lines.join('\n'),
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(stderr);
  return stdout.trimEnd().split('\n');
}

const readAndWrite = `
import rollcall_app
for line in sys.stdin:
    try:
        read = rollcall_app.decode_content(bytearray.fromhex(line.strip()))
        print(b"".join(rollcall_app.encode_content(read)).hex())
    except rollcall_app.ContentError:
        print("refused")
`;

const hexOf = (content: Content): string => Buffer.concat(encodeContent(content)).toString('hex');

function isTaken(hex: string): boolean {
  try {
    decodeContent(Uint8Array.from(Buffer.from(hex, 'hex')));
    return true;
  } catch {
    return false;
  }
}

const sample: Content = {
  ...{
    nan: NaN,
    up: Infinity,
    down: -Infinity,
    minus: -0,
    zero: 0,
    five: 5,
    tiny: 5e-324,
    huge: Number.MAX_VALUE,
  },
  ...{
    long: 1e21,
    short: 1e-7,
    edge: 123456789012345680000,
    safe: 2 ** 53,
    text: 'grüße 🐎 \u2028\u007f\n"\\\b',
    yes: true,
  },
  ...{
    raw: Uint8Array.of(1, 2, 3),
    none: new Uint8Array(0),
    '': {},
    deep: { deep: { deep: { b: 1, '2': 2, '1': 3 } } },
  },
  empty: new NumberArray(new Float32Array(0)),
  shaped: new NumberArray(new Float64Array(0), [3, 0, 2]),
  scalar: new NumberArray(Uint16Array.of(65_535), []),
  int8: new NumberArray(Int8Array.of(-128)),
  uint8: new NumberArray(Uint8Array.of(255)),
  int16: new NumberArray(Int16Array.of(-5)),
  int32: new NumberArray(Int32Array.of(-5, 6), [2, 1]),
  uint32: new NumberArray(Uint32Array.of(2 ** 32 - 1)),
  int64: new NumberArray(BigInt64Array.of(-(2n ** 63n))),
  uint64: new NumberArray(BigUint64Array.of(2n ** 64n - 1n)),
  float32: new NumberArray(Float32Array.of(1.5, NaN)),
};

const array = fc
  .tuple(fc.constantFrom(Int8Array, Uint32Array, Float64Array), fc.uint8Array({ maxLength: 4 }))
  .map(([Type, numbers]) => new NumberArray(Type.from(numbers)));
const { content } = fc.letrec<{ value: ContentValue; content: Content }>(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.double(),
    fc.integer(),
    fc.string({ unit: 'grapheme' }),
    fc.boolean(),
    fc.uint8Array({ maxLength: 9 }),
    array,
    tie('content'),
  ),
  content: fc.dictionary(fc.string({ unit: 'grapheme', maxLength: 4 }), tie('value'), {
    maxKeys: 4,
    noNullPrototype: true,
  }),
}));

void t.test('Python reads the content that TypeScript writes, and writes the same bytes', { skip }, test => {
  const doubles = fc.sample(fc.double(), { numRuns: 5_000, seed: 7 });
  const numbers: Content = Object.fromEntries(doubles.map((each, index) => [`n${index}`, each]));
  const powers = Object.fromEntries(
    Array.from({ length: 640 }, (_, n) => [`p${n}`, Number(`1.5e${n - 320}`)]),
  );
  const contents = [{}, sample, numbers, powers, ...fc.sample(content, { numRuns: 500, seed: 7 })];
  const lines = contents.map(hexOf);
  const read = runPython(readAndWrite, lines);
  for (const [index, line] of lines.entries()) {
    if (read[index] !== line) test.equal(read[index], line, JSON.stringify(contents[index]).slice(0, 200));
  }
  test.equal(read.length, lines.length);
  test.end();
});

function withHead(head: string, sections = 0): string {
  const length = Math.ceil((8 + Buffer.byteLength(head)) / 8) * 8 - 8;
  const bytes = Buffer.alloc(8 + length + sections);
  bytes.fill(' ', 8, 8 + length);
  bytes.write('RCC1');
  bytes.writeUInt32LE(length, 4);
  bytes.write(head, 8);
  return bytes.toString('hex');
}

void t.test('Python and TypeScript refuse the same invalid contents', { skip }, test => {
  const good = Buffer.from(hexOf(sample), 'hex');
  const changes = fc.sample(fc.tuple(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length)), {
    numRuns: 1_000,
    seed: 7,
  });
  const changed = changes.flatMap(([at, octet, length]) => {
    const other = Buffer.from(good);
    other[at] = octet;
    return [other, good.subarray(0, length), Buffer.concat([good, Buffer.alloc(8)])].map(each =>
      each.toString('hex'),
    );
  });
  const value = (head: string, sections = 0): string => withHead(`{"record":[["a",${head}]]}`, sections);
  const heads = [
    ...[
      '',
      'null',
      '1',
      '[]',
      '"text"',
      '{}',
      '{"bytes":0}',
      '{"record":{}}',
      '{"record":[["a"]]}',
      '{"record": []}',
    ],
    ...[
      '{"record":[["a",1,2]]}',
      '{"record":[[1,1]]}',
      '{"record":[["a",1],["a",1]]}',
      '{"record":[],"bytes":0}',
    ],
    ...['{"record":[]}\\n', '{"record":[],"record":[]}', '\ufeff{"record":[]}', '{"record":[["\\u0041",1]]}'],
  ].map(head => withHead(head));
  const values = [
    ...[
      'null',
      '1.0',
      '-0',
      '0',
      '1e3',
      '1e21',
      '1e+21',
      '1e-7',
      '0.0000001',
      '1e400',
      'NaN',
      '[]',
      '"\\ud800"',
      '"\\n"',
      '"\\u000a"',
    ],
    ...[
      '"\\/"',
      '"\\u001f"',
      '"\\u001F"',
      '9007199254740993',
      '9007199254740992',
      '123456789012345680000',
      '"\\ud83d\\udc0e"',
      'true',
    ],
    ...[
      '{"number":"1"}',
      '{"number":"NaN"}',
      '{"number":"toString"}',
      '{"number":1}',
      '{"bytes":-1}',
      '{"bytes":0.5}',
      '{"bytes":0}',
    ],
    ...[
      '{"array":"float16","shape":[0]}',
      '{"array":"int8","shape":[-1]}',
      '{"array":"int8","shape":8}',
      '{"array":"int8","shape":[true]}',
    ],
    ...[
      '{"shape":[0],"array":"int8"}',
      '{"array":"int8","shape":[9007199254740991,0]}',
      '{"array":1,"shape":[0]}',
      '{"array":[],"shape":[0]}',
    ],
    ...[
      '{"array":"int8","shape":[9007199254740991,9007199254740991]}',
      `{"array":"int8","shape":[${Array(17).fill(1).join()}]}`,
    ],
    ...[
      '{"record":[["a",'.repeat(15) + '1' + ']]}'.repeat(15),
      '{"record":[["a",'.repeat(16) + '1' + ']]}'.repeat(16),
    ],
    '['.repeat(100_000) + ']'.repeat(100_000),
    `{"record":[${Array.from({ length: 9_998 }, (_, n) => `["${n}",1]`).join()}]}`,
    `{"record":[${Array.from({ length: 9_999 }, (_, n) => `["${n}",1]`).join()}]}`,
  ].map(head => value(head));
  const padding = [
    value('{"bytes":8}', 8),
    value('{"bytes":5}', 8),
    value('{"bytes":5}', 16),
    value('{"bytes":8}'),
  ];
  const lines = [
    ...changed,
    ...heads,
    ...values,
    ...padding,
    '',
    Buffer.from('RCC1\xff\xff\xff\xff', 'latin1').toString('hex'),
  ];
  const read = runPython(readAndWrite, lines);
  let taken = 0;
  for (const [index, line] of lines.entries()) {
    const expected = isTaken(line) ? line : 'refused';
    if (expected === line) taken += 1;
    if (read[index] !== expected)
      test.equal(read[index], expected, Buffer.from(line, 'hex').toString('latin1').slice(8, 200));
  }
  test.ok(taken > 20 && taken < lines.length - 1_000, `${taken} of ${lines.length} were taken`);
  test.end();
});

void t.test('Python values are encoded, or refused with the name of their type', { skip }, test => {
  const script = `
import array
import rollcall_app
from rollcall_app import NumberArray
grid = memoryview(bytes(range(6))).cast("B", [2, 3])
for value in [
    {"i": 5, "f": 5.0, "t": True, "s": "x", "b": bytearray(b"ab"), "d": {"x": float("nan"), "y": -0.0}, "big": 2 ** 60},
    {"a": array.array("f", [1, 2]), "l": array.array("l", [-1]), "v": grid, "n": NumberArray(array.array("d", [1, 2, 3, 4]), [2, 2])},
    {"e": array.array("q"), "odd": memoryview(array.array("h", [1, 2, 3, 4]))[::2]},
    {"a": [1, 2]}, {"a": None}, {"a": 2 ** 53 + 1}, {"a": 10 ** 400}, {1: 2}, {"a": {1, 2}}, {"a": "\\ud800"}, [1], {"a": array.array("u", "x")},
    {"a": 1j}, {"a": NumberArray},
]:
    try:
        print(b"".join(rollcall_app.encode_content(value)).hex())
    except rollcall_app.ContentError as error:
        print("refused:", str(error).encode("ascii", "replace").decode())
for shape in [[3], [-2, -1], [2, 2], [2.0]]:
    try:
        NumberArray(array.array("f", [1, 2]), shape)
        print("taken")
    except rollcall_app.ContentError:
        print("refused")
data = bytearray(b"".join(rollcall_app.encode_content({"a": array.array("i", [1, 2, 3])})))
read = rollcall_app.decode_content(data)["a"]
read.data[0] = 7
print(list(rollcall_app.decode_content(data)["a"]), read.array(), read.typecode, read.shape, len(read))
`;
  const said = runPython(script);
  test.equal(
    said[0],
    hexOf({
      ...{ i: 5, f: 5, t: true, s: 'x', b: Buffer.from('ab'), d: { x: NaN, y: -0 }, big: 2 ** 60 },
    }),
  );
  test.equal(
    said[1],
    hexOf({
      a: new NumberArray(Float32Array.of(1, 2)),
      l: new NumberArray(BigInt64Array.of(-1n)),
      v: new NumberArray(Uint8Array.of(0, 1, 2, 3, 4, 5), [2, 3]),
      n: new NumberArray(Float64Array.of(1, 2, 3, 4), [2, 2]),
    }),
  );
  test.equal(
    said[2],
    hexOf({ e: new NumberArray(new BigInt64Array(0)), odd: new NumberArray(Int16Array.of(1, 3)) }),
  );
  for (const line of said.slice(3, 14)) test.match(line, /^refused: /);
  test.match(said[3], /array.array/);
  test.match(said[5], /larger than numbers can be/);
  test.same(said.slice(14, 18), Array(4).fill('refused'));
  test.equal(said[18], "[7, 2, 3] array('i', [7, 2, 3]) i (3,) 3", 'arrays look into what came');
  test.end();
});

const hasNumpy = hasPython && spawnSync('python3', ['-c', 'import numpy']).status === 0;

void t.test(
  'numpy arrays are encoded without a copy',
  { skip: !hasNumpy && 'there is no numpy here' },
  test => {
    const [hex, shape, shared, number] = runPython(`
import numpy, rollcall_app
parts = rollcall_app.encode_content({"a": numpy.arange(6, dtype="float32").reshape(2, 3), "s": numpy.float32(0.5), "t": numpy.bool_(True)})
data = bytearray(b"".join(parts))
print(data.hex())
read = rollcall_app.decode_content(data)
view = read["a"].numpy()
view[0, 0] = 9
print(view.shape, view.dtype)
print(read["a"].data[0])
print(read["s"], read["t"])
`);
    test.equal(
      hex,
      hexOf({ a: new NumberArray(Float32Array.of(0, 1, 2, 3, 4, 5), [2, 3]), s: 0.5, t: true }),
    );
    test.equal(shape, '(2, 3) float32');
    test.equal(shared, '9.0');
    test.equal(number, '0.5 True');
    test.end();
  },
);

void t.test('the Python package has the version and the files of the npm package', async test => {
  const readHere = (path: string): Promise<string> => readFile(join(folder, path), 'utf8');
  const { version, files } = JSON.parse(await readHere('../package.json')) as {
    version: string;
    files: readonly string[];
  };
  const project = await readHere('pyproject.toml');
  test.equal(/^version = "(.*)"$/m.exec(project)?.[1], version);
  const sources = (await readdir(folder)).filter(name => name.endsWith('.py')).sort();
  const modules = /^py-modules = \[(.*)\]$/m.exec(project)?.[1]?.split(', ');
  test.same(
    modules,
    sources.map(name => JSON.stringify(name.replace('.py', ''))),
  );
  for (const name of [...sources, 'pyproject.toml'])
    test.ok(files.includes(`python/${name}`), `${name} is published`);
});
