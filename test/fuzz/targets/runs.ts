/**
 * Input from apps and their hosts: frames on the socket, requests of a server half in them, contents, archives and
 * manifests of apps, manifests of objects.
 */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import {
  contentLimits,
  decodeContent,
  encodeContent,
  NumberArray,
  type Content,
  type ContentValue,
} from '../../../src/app/content.js';
import {
  createFrameReader,
  encodeFrame,
  frameLimits,
  type Frame,
} from '../../../src/app-host/wire/frames.js';
import { readArchive } from '../../../src/app-package/app-archive.js';
import { parseAppManifest } from '../../../src/app-package/app-manifest.js';
import { appLimits } from '../../../src/app/limits.js';
import { readNodesRequest, readSend } from '../../../src/link/runs/server/server-frames.js';
import { makeManifest, manifestOf, parseManifest } from '../../../src/objects/manifest.js';
import { limits } from '../../../src/protocol/limits.js';
import { changeBytes, changedBytes, pick, steps } from '../bytes.js';
import { demand, tried, type Target } from '../fuzzing.js';
import { changedTexts } from '../texts.js';

const digest = 'ab'.repeat(32);
const words = [
  ...[
    '0',
    '-1',
    '1e999',
    '1.5',
    'null',
    'true',
    '{}',
    '[]',
    '""',
    '"__proto__"',
    '"é"',
    '"\\ud800"',
    '"\\u001b[2J"',
  ],
  ...[
    '9007199254740993',
    '"18446744073709551616"',
    '"007"',
    `"${digest}"`,
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
  ],
];

// Frames.

type Said = readonly [name: string, value: object, body?: string];

const said: readonly Said[] = [
  ['send', { number: 1, node: '16019329408659850374', type: 'train', group: '1', ttlMs: 5_000 }, 'a content'],
  ['send', { number: 2, node: '7', type: 'é', group: '', object: { digest, sizeBytes: 70_000 } }],
  ['nodes', { request: 1, min: 2, labels: { site: 'berlin' }, timeoutMs: 1_000 }],
  ['nodes', { request: 2 }],
  ['taken', { number: 1 }],
  ['log', { sequence: 1, at: 1_924_988_400_000, level: 'info', text: 'hello' }],
  ['chunk', { digest, chunk: 0 }, 'x'.repeat(100)],
  ['supervise', { protocol: 1, runs: ['7'] }],
  ['finished', { result: { accuracy: 0.9 } }],
];

function write([name, value, body = '']: Said): Buffer {
  return Buffer.concat([encodeFrame(name, value, Buffer.byteLength(body)), Buffer.from(body)]);
}

const frames = said.map(write);

/** A head of any text, with lengths that are right. */
function withHead(head: Buffer): Buffer {
  const prefix = Buffer.alloc(8);
  prefix.writeUInt32LE(head.length);
  return Buffer.concat([prefix, head]);
}

const changedHeads = changedTexts(
  said.map(([name, value]) => JSON.stringify({ [name]: value })),
  words,
).map(withHead);
const someFrames = fc.oneof(
  changedBytes([...frames, Buffer.concat(frames)]),
  changedHeads,
  fc.tuple(changedHeads, changedBytes(frames)).map(parts => Buffer.concat(parts)),
);

/** The frames in the bytes, when they come in pieces of this length. */
function readInPieces(bytes: Buffer, length: number): Frame[] {
  const read = createFrameReader();
  const found: Frame[] = [];
  for (let at = 0; at < bytes.length; at += length) found.push(...read(bytes.subarray(at, at + length)));
  return found;
}

const spell = (found: readonly Frame[]): string =>
  JSON.stringify(found.map(({ name, value, body }) => [name, value, body.toString('hex')]));

const frameReader: Target = {
  name: 'createFrameReader',
  inputs: someFrames,
  reaches: ['frames', 'a part of one', 'PROTOCOL_INVALID'],
  check(input) {
    const whole = tried(() => readInPieces(input, Math.max(1, input.length)), 'PROTOCOL_INVALID');
    const inPieces = tried(() => readInPieces(input, 1 + (input.length % 13)), 'PROTOCOL_INVALID');
    demand('value' in whole === 'value' in inPieces, 'it does not matter how bytes come');
    if ('refusal' in whole || 'refusal' in inPieces) return 'PROTOCOL_INVALID';
    const found = whole.value;
    demand(spell(found) === spell(inPieces.value), 'the same frames, however bytes come');
    for (const { name, value, body } of found) {
      demand(
        body.length <= frameLimits.bodyBytes && body.byteOffset % 8 === 0,
        'a body that arrays can look into',
      );
      const [again] = readInPieces(Buffer.concat([encodeFrame(name, value, body.length), body]), 1_000_000);
      demand(
        again !== undefined && spell([again]) === spell([{ name, value, body }]),
        'what was read is written',
      );
    }
    return found.length > 0 ? 'frames' : 'a part of one';
  },
};

const serverFrames: Target = {
  name: 'readSend and readNodesRequest',
  inputs: changedHeads,
  reaches: ['a message', 'a search', 'PROTOCOL_INVALID', 'no frame'],
  check(input) {
    const read = tried(() => readInPieces(input, Math.max(1, input.length)), 'PROTOCOL_INVALID');
    const [frame] = 'value' in read ? read.value : [];
    if (!frame) return 'no frame';
    const sent = tried(() => readSend(frame), 'PROTOCOL_INVALID');
    const asked = tried(() => readNodesRequest(frame), 'PROTOCOL_INVALID');
    if ('value' in sent) {
      const { number, node, type, group, ttlMs, content } = sent.value;
      demand(Number.isSafeInteger(number) && number >= 1, 'a number that counts');
      demand(node === undefined || (node > 0n && node < 1n << 64n), 'a node or none');
      demand(type.length <= 200 && group.length <= 200, 'names of some length');
      demand(
        Number.isInteger(ttlMs) && ttlMs >= appLimits.minTtlMs && ttlMs <= appLimits.maxTtlMs,
        'a time within bounds',
      );
      if ('bytes' in content) demand(content.bytes.length <= limits.contentBytes, 'a content that fits');
      else demand(/^[0-9a-f]{64}$/.test(content.object.digest) && content.object.sizeBytes >= 1, 'an object');
      return 'a message';
    }
    if ('refusal' in asked) return 'PROTOCOL_INVALID';
    const { min, labels, timeoutMs } = asked.value.criteria;
    demand(Number.isInteger(min) && min >= 0 && timeoutMs >= 0, 'valid criteria');
    demand(
      Object.values(labels).every(each => typeof each === 'string'),
      'labels are texts',
    );
    return 'a search';
  },
};

// Contents.

const contents: readonly Content[] = [
  {},
  { text: 'é', yes: true, number: 1.5, odd: -0, none: NaN, bytes: Buffer.from('abc') },
  {
    weights: new NumberArray(Float32Array.from([1, 2, 3, 4, 5, 6]), [2, 3]),
    bias: new NumberArray(BigInt64Array.of(-1n)),
  },
  {
    deep: { deeper: { deepest: new NumberArray(new Uint8Array(9), [3, 3, 1]) } },
    scalar: new NumberArray(Float64Array.of(1), []),
  },
];
const encoded = contents.map(content => Buffer.concat(encodeContent(content)));

/** The head by words, with its length and padding made right. */
const changedContents = fc
  .tuple(
    changedTexts(
      encoded.map(each => each.toString('utf8', 8, 8 + each.readUInt32LE(4)).trimEnd()),
      [...words, '"array"', '"float32"', '"shape"', '"bytes"', '"record"', '{"number":"NaN"}', '{"bytes":0}'],
    ),
    fc.noBias(fc.nat()),
  )
  .map(([text, number]) => {
    const sample = pick(encoded, number);
    const head = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
    head.write('RCC1');
    head.writeUInt32LE(head.length - 8, 4);
    text.copy(head, 8);
    return Buffer.concat([head, sample.subarray(8 + sample.readUInt32LE(4))]);
  });

function countValues(value: ContentValue): number {
  if (typeof value !== 'object' || value instanceof Uint8Array || value instanceof NumberArray) return 1;
  return Object.values(value).reduce<number>((sum, each) => sum + countValues(each), 1);
}

const contentReader: Target = {
  name: 'decodeContent',
  inputs: fc.oneof(changedBytes(encoded), changedContents),
  reaches: ['read', 'PROTOCOL_INVALID'],
  check(input) {
    const result = tried(() => decodeContent(input), 'PROTOCOL_INVALID');
    if ('refusal' in result) return 'PROTOCOL_INVALID';
    demand(countValues(result.value) <= contentLimits.values, 'no more values than may be');
    const written = Buffer.concat(encodeContent(result.value));
    // Names that are numbers come out first.
    demand(written.length === input.length, 'one way to write it');
    demand(isDeepStrictEqual(decodeContent(written), result.value), 'what is written is read again');
    return 'read';
  },
};

// Apps.

const sha256 = (content: Buffer | string): string => createHash('sha256').update(content).digest('hex');
const manifests = [
  { name: 'digits', version: '1.0.0', server: 'server.js', node: 'lib/node.py' },
  {
    name: 'a',
    version: '0.1.2-rc.1',
    server: 'server.js',
    node: 'lib/node.py',
    config: { rounds: 3, 'a-b': 'é', fast: false },
  },
].map(each => JSON.stringify(each));
const manifestWords = [
  ...words,
  '"name"',
  '"config"',
  '"../x.js"',
  '"a\\\\b.js"',
  '"1.0"',
  '"x.py"',
  '"\\u202e"',
  '"C"',
];

const manifestReader: Target = {
  name: 'parseAppManifest',
  inputs: changedTexts(manifests, manifestWords),
  reaches: ['read', 'REQUEST_INVALID'],
  check(input) {
    const result = tried(() => parseAppManifest(input.toString()), 'REQUEST_INVALID');
    if ('refusal' in result) return 'REQUEST_INVALID';
    const { server, node, config, ...rest } = result.value;
    demand(
      isDeepStrictEqual(parseAppManifest(JSON.stringify(result.value)), result.value),
      'read again as the same',
    );
    demand(
      [server, node].every(path => /\.(js|mjs|py)$/.test(path)),
      'entries that can be run',
    );
    demand(![server, node].some(path => /^\/|(^|\/)\.\.?(\/|$)|\\/.test(path)), 'paths stay inside');
    demand(/^[a-z0-9-]+ \d/.test(`${rest.name} ${rest.version}`), 'a name and a version');
    demand(
      Object.values(config).every(value => ['string', 'number', 'boolean'].includes(typeof value)),
      'settings',
    );
    return 'read';
  },
};

interface Packed {
  readonly list: string;
  readonly contents: Buffer;
}

function pack(manifest: string): Packed {
  const files = [
    ['app.json', manifest],
    ['lib/node.py', 'import rollcall_app\n'],
    ['server.js', 'export default 1;\n'],
  ] as const;
  const list = files.map(([path, content]) => ({
    path,
    digest: sha256(content),
    sizeBytes: Buffer.byteLength(content),
  }));
  return { list: JSON.stringify(list), contents: Buffer.from(files.map(([, content]) => content).join('')) };
}

function assemble(list: Buffer | string, contents: Buffer): Buffer {
  const text = Buffer.from(list);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text, contents]);
}

const packed = manifests.map(pack);
const archives = packed.map(({ list, contents: of }) => assemble(list, of));
const changedLists = fc
  .tuple(
    changedTexts(
      packed.map(({ list }) => list),
      [...words, '"path"', '"../a"', '"server.js"', '".git"'],
    ),
    fc.nat(1),
  )
  .map(([list, number]) => assemble(list, pick(packed, number).contents));
const changedManifests = changedTexts(manifests, manifestWords).map(text => {
  const { list, contents: of } = pack(text.toString());
  return assemble(list, of);
});

const archiveReader: Target = {
  name: 'readArchive',
  inputs: fc.oneof(changedBytes(archives), changedLists, changedManifests),
  reaches: ['read', 'REQUEST_INVALID'],
  check(input) {
    const result = tried(() => readArchive(input), 'REQUEST_INVALID');
    if ('refusal' in result) return 'REQUEST_INVALID';
    const { files, manifest, digest: name } = result.value;
    const list = files.map(({ path, digest: of, sizeBytes }) => ({ path, digest: of, sizeBytes }));
    const again = assemble(JSON.stringify(list), Buffer.concat(files.map(({ content }) => content)));
    demand(again.equals(input), 'one way to write it');
    demand(
      files.every(({ content, digest: of }) => sha256(content) === of),
      'what its list says',
    );
    demand(!files.some(({ path }) => /^\/|(^|\/)\.|\\/.test(path)), 'paths stay inside');
    demand(/^[0-9a-f]{64}$/.test(name) && files.some(({ path }) => path === manifest.server), 'an app');
    return 'read';
  },
};

// Objects.

const objects = [1, 70_000, 1024 * 1024, 3 * 1024 * 1024 + 5].map(
  size => manifestOf([Buffer.alloc(size, 1)]).bytes,
);

const objectManifests: Target = {
  name: 'parseManifest',
  inputs: fc
    .tuple(fc.noBias(fc.nat()), steps)
    .map(([number, list]) => changeBytes(pick(objects, number), list, objects)),
  reaches: ['read', 'PROTOCOL_INVALID'],
  check(input) {
    const result = tried(() => parseManifest(input), 'PROTOCOL_INVALID');
    if ('refusal' in result) return 'PROTOCOL_INVALID';
    const { bytes, sizeBytes, chunks, digest: name } = result.value;
    demand(bytes.equals(input) && sha256(input) === name, 'named by its bytes');
    demand(isDeepStrictEqual(makeManifest(sizeBytes, chunks), result.value), 'one way to write it');
    return 'read';
  },
};

export const runTargets = [
  frameReader,
  serverFrames,
  contentReader,
  manifestReader,
  archiveReader,
  objectManifests,
];
