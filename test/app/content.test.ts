/** Contents of messages: they survive encoding, arrays are not copied, and invalid ones are refused. */
import t from 'tap';
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import {
  decodeContent,
  encodeContent,
  NumberArray,
  type ArrayData,
  type Content,
  type ContentValue,
} from '../../src/app/content.js';
import { isRollcallError } from '../../src/base/errors.js';

const bytesOf = (content: Content): Buffer => Buffer.concat(encodeContent(content));
/** At a multiple of eight, whatever Buffer.concat gave. */
const aligned = (content: Content): Uint8Array => Uint8Array.from(bytesOf(content));

function codeOf(work: () => unknown): string {
  try {
    work();
    return 'taken';
  } catch (error) {
    return isRollcallError(error) ? error.code : String(error);
  }
}

const sample: Content = {
  loss: 0.25,
  rounds: 3,
  label: 'grüße 🐎',
  done: true,
  raw: Uint8Array.of(1, 2, 3),
  model: {
    weights: new NumberArray(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]),
    bias: new NumberArray(Float64Array.of(-1.5)),
    '1': new NumberArray(BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n)),
    '0': new NumberArray(Uint16Array.of(65_535), []),
  },
  '': {},
};

void t.test('decoding encoded content gives the same content', test => {
  const read = decodeContent(bytesOf(sample));
  test.same(read, sample);
  test.same(
    (read['model'] as Content)['weights'],
    new NumberArray(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]),
  );
  for (const odd of [NaN, Infinity, -Infinity, -0, 5e-324, Number.MAX_VALUE, 2 ** 53])
    test.ok(Object.is(decodeContent(bytesOf({ odd }))['odd'], odd), String(odd));
  test.end();
});

void t.test('arrays and bytes are encoded and decoded without a copy', test => {
  const data = Float32Array.of(1, 2, 3);
  const parts = encodeContent({ a: new NumberArray(data), b: new NumberArray(data) });
  test.equal(parts.filter(part => part.buffer === data.buffer).length, 2, 'written without a copy');
  const came = aligned({ a: new NumberArray(data), raw: Uint8Array.of(7) });
  const { a, raw } = decodeContent(came) as { a: NumberArray; raw: Uint8Array };
  test.equal(a.data.buffer, came.buffer, 'read without a copy');
  test.equal(raw.buffer, came.buffer);
  const shifted = new Uint8Array(came.length + 1);
  shifted.set(came, 1);
  const moved = decodeContent(shifted.subarray(1)) as { a: NumberArray };
  test.same(moved.a.data, data, 'what begins at an odd address is copied once');
  test.ok(encodeContent(sample).every(part => part.length % 8 === 0 || part.length < 8 * 8));
  test.end();
});

const type = fc.constantFrom<(buffer: ArrayBuffer) => ArrayData>(
  buffer => new Int8Array(buffer),
  buffer => new Uint32Array(buffer),
  buffer => new BigUint64Array(buffer),
  buffer => new Float64Array(buffer),
);
const array = fc.tuple(type, fc.uint8Array({ maxLength: 4 }), fc.boolean()).map(([make, numbers, isFlat]) => {
  const data = make(new ArrayBuffer(numbers.length * 8));
  numbers.forEach((number, index) => (data[index] = typeof data[0] === 'bigint' ? BigInt(number) : number));
  return new NumberArray(data, isFlat ? undefined : [1, data.length]);
});
const { content } = fc.letrec<{ value: ContentValue; content: Content }>(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.double(),
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

void t.test('any valid content survives encoding and decoding', test => {
  fc.assert(
    fc.property(content, made => {
      const written = bytesOf(made);
      const read = decodeContent(written);
      test.ok(bytesOf(read).equals(written));
      if (!('__proto__' in made && Object.hasOwn(made, '__proto__')))
        test.same(Object.keys(read).sort(), Object.keys(made).sort());
    }),
    { numRuns: 500, seed: 7 },
  );
  test.end();
});

void t.test('altered content is refused, or decodes to other valid content', test => {
  const good = bytesOf(sample);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, octet, length) => {
      const changed = Buffer.from(good);
      changed[at] = octet;
      for (const tried of [changed, good.subarray(0, length), Buffer.concat([good, Buffer.alloc(8)])]) {
        let read: Content | undefined;
        const code = codeOf(() => (read = decodeContent(tried)));
        if (!read) test.equal(code, 'PROTOCOL_INVALID');
        else test.same(decodeContent(bytesOf(read)), read);
      }
    }),
    { numRuns: 1_000, seed: 7 },
  );
  test.end();
});

function withHead(head: string, sections = 0): Buffer {
  const padded = head.padEnd(
    Math.ceil((8 + Buffer.byteLength(head)) / 8) * 8 - 8 + head.length - Buffer.byteLength(head),
  );
  const bytes = Buffer.alloc(8 + Buffer.byteLength(padded) + sections);
  bytes.write('RCC1');
  bytes.writeUInt32LE(Buffer.byteLength(padded), 4);
  bytes.write(padded, 8);
  return bytes;
}

void t.test('hostile heads of content are refused or decode without prototype pollution', test => {
  test.same(decodeContent(withHead('{"record":[["a",1]]}')), { a: 1 });
  const polluted = decodeContent(withHead('{"record":[["__proto__",{"record":[["admin",true]]}]]}'));
  test.equal((polluted as { admin?: unknown }).admin, undefined);
  test.equal(({} as { admin?: unknown }).admin, undefined);
  const bad = [
    '',
    'null',
    '1',
    '[]',
    '"text"',
    '{}',
    '{"bytes":0}',
    '{"record":{}}',
    '{"record":[["a"]]}',
    '{"record":[["a",1,2]]}',
    '{"record":[[1,1]]}',
    '{"record":[["a",null]]}',
    '{"record":[["a",1],["a",1]]}',
    '{"record":[],"bytes":0}',
    '{"record": []}',
    '{"record":[["a",1.0]]}',
    '{"record":[["a","\\ud800"]]}',
    '{"record":[["\\ud800",1]]}',
    '{"record":[["a",[]]]}',
    '{"record":[["a",{"number":"1"}]]}',
    '{"record":[["a",{"number":"toString"}]]}',
    '{"record":[["a",{"bytes":-1}]]}',
    '{"record":[["a",{"bytes":0.5}]]}',
    '{"record":[["a",{"bytes":8}]]}',
    '{"record":[["a",{"array":"float16","shape":[0]}]]}',
    '{"record":[["a",{"array":"toString","shape":[0]}]]}',
    '{"record":[["a",{"array":"int8","shape":[-1]}]]}',
    '{"record":[["a",{"array":"int8","shape":8}]]}',
    '{"record":[["a",{"shape":[0],"array":"int8"}]]}',
    `{"record":[["a",{"array":"int8","shape":[9007199254740991,9007199254740991]}]]}`,
    `{"record":[["a",{"array":"int8","shape":[${Array(17).fill(1).join()}]}]]}`,
    '{"record":[["a",'.repeat(40) + '1' + ']]}'.repeat(40),
  ];
  for (const head of bad)
    test.equal(
      codeOf(() => decodeContent(withHead(head))),
      'PROTOCOL_INVALID',
      head.slice(0, 60),
    );
  test.equal(
    codeOf(() => decodeContent(Buffer.of())),
    'PROTOCOL_INVALID',
  );
  test.equal(
    codeOf(() => decodeContent(Buffer.from('RCC1\xff\xff\xff\xff', 'latin1'))),
    'PROTOCOL_INVALID',
  );
  const many = `{"record":[${Array.from({ length: 10_001 }, (_, n) => `["${n}",1]`).join()}]}`;
  test.equal(
    codeOf(() => decodeContent(withHead(many))),
    'PROTOCOL_INVALID',
  );
  test.end();
});

void t.test('content of an unsupported type is refused before it is sent', test => {
  test.equal(
    codeOf(() => new NumberArray(Float32Array.of(1, 2), [3])),
    'REQUEST_INVALID',
  );
  test.equal(
    codeOf(() => new NumberArray(Float32Array.of(), [-1])),
    'REQUEST_INVALID',
  );
  test.equal(
    codeOf(() => bytesOf({ a: '\ud800' })),
    'REQUEST_INVALID',
  );
  test.equal(
    codeOf(() => bytesOf({ '\udfff': 1 })),
    'REQUEST_INVALID',
  );
  const odd: readonly unknown[] = [
    null,
    undefined,
    1n,
    [1, 2],
    Float32Array.of(1),
    new Map(),
    () => 1,
    new Date(),
  ];
  for (const value of odd)
    test.equal(
      codeOf(() => bytesOf({ value } as Content)),
      'REQUEST_INVALID',
      String(value),
    );
  let deep: Content = {};
  for (let depth = 0; depth < 20; depth += 1) deep = { deep };
  test.equal(
    codeOf(() => bytesOf(deep)),
    'REQUEST_INVALID',
  );
  test.equal(
    codeOf(() => bytesOf({ a: 'x'.repeat(2_000_000) })),
    'REQUEST_INVALID',
  );
  test.end();
});

const reader = `
import json, struct, sys
data = sys.stdin.buffer.read()
assert data[:4] == b"RCC1"
(length,) = struct.unpack_from("<I", data, 4)
at = 8 + length
codes = {"float32": "f", "float64": "d", "int64": "q", "uint16": "H"}
def read(head):
    global at
    if not isinstance(head, dict): return head
    if "record" in head: return {name: read(each) for name, each in head["record"]}
    if "bytes" in head: size, code = head["bytes"], "B"
    else:
        count = 1
        for each in head["shape"]: count *= each
        code = codes[head["array"]]; size = count * struct.calcsize("<" + code)
    view = memoryview(data)[at:at + size]
    at += (size + 7) // 8 * 8
    return list(view.cast(code))
print(json.dumps(read(json.loads(data[8:8 + length]))))
assert at == len(data)
`;
const hasPython = spawnSync('python3', ['--version']).status === 0;

void t.test(
  'Python decodes content with its standard library',
  { skip: !hasPython && 'there is no python3 here' },
  test => {
    const { stdout, stderr } = spawnSync('python3', ['-c', reader], {
      input: bytesOf(sample),
      encoding: 'utf8',
    });
    test.equal(stderr, '');
    test.same(JSON.parse(stdout.replaceAll(/-?\d{17,}/g, '"$&"')), {
      loss: 0.25,
      rounds: 3,
      label: 'grüße 🐎',
      done: true,
      raw: [1, 2, 3],
      model: {
        weights: [1, 2, 3, 4, 5, 6],
        bias: [-1.5],
        '0': [65_535],
        '1': [`${-(2n ** 63n)}`, `${2n ** 63n - 1n}`],
      },
      '': {},
    });
    test.end();
  },
);
