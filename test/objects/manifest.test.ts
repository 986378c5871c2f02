import t from 'tap';
import { createHash } from 'node:crypto';
import { isRollcallError } from '../../src/base/errors.js';
import { chunkBytes, maxChunks, maxObjectBytes } from '../../src/objects/limits.js';
import {
  chunkLengthOf,
  digestOfChunk,
  distinctChunks,
  makeManifest,
  manifestOf,
  parseManifest,
  readChunkOf,
} from '../../src/objects/manifest.js';
import { numbered } from '../harness/numbered-bytes.js';

const codeThrownBy = (work: () => unknown): string => {
  try {
    work();
    return 'nothing';
  } catch (error) {
    return isRollcallError(error) ? error.code : 'INTERNAL';
  }
};
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

void t.test('manifests are the bytes that docs/app-host-protocol.md describes', t => {
  // Computed in another language, from the page alone.
  const vectors: readonly (readonly [sizeBytes: number, chunks: number, digest: string])[] = [
    [1, 1, 'eb4c9d2b4165cf3fde71b70c08bdb17401805c07b638863cb8abbc15478501e6'],
    [chunkBytes - 1, 1, '24ad7a0f9b62d4090f0024244f4b7718ef50659a23be2c2720741c8443f68070'],
    [chunkBytes, 1, 'e2008b809ebf9783d891ee9edb0767a1ea251fe278f984e19cc0fe259dc77c6e'],
    [chunkBytes + 1, 2, '7ce2336fe879776e02ee1d84d4333880d86551d7ed67f445ba9209eb9c4b1fc1'],
  ];
  for (const [sizeBytes, chunks, digest] of vectors) {
    const manifest = manifestOf([Buffer.alloc(sizeBytes, 0x61)]);
    t.equal(manifest.digest, digest, `${sizeBytes} times "a"`);
    t.equal(manifest.chunks.length, chunks);
    t.equal(manifest.sizeBytes, sizeBytes);
    t.equal(manifest.bytes.length, 8 + 32 * chunks);
    t.equal(manifest.bytes.readBigUInt64BE(), BigInt(sizeBytes));
    t.equal(manifest.bytes.toString('hex', 8), manifest.chunks.join(''));
    t.equal(manifest.digest, sha256(manifest.bytes));
    t.same(parseManifest(manifest.bytes), manifest);
    t.same(makeManifest(manifest.sizeBytes, manifest.chunks), manifest);
  }
  t.end();
});

void t.test('a manifest does not depend on how its bytes were cut into parts', t => {
  const bytes = numbered(3 * chunkBytes - 7);
  const cuts = [0, 1, 5, chunkBytes - 1, chunkBytes + 3, 2 * chunkBytes, 2 * chunkBytes + 1, bytes.length];
  const parts = cuts.map((end, at) => bytes.subarray(cuts[at - 1] ?? 0, end));
  const whole = manifestOf([bytes]);
  t.same(manifestOf(parts), whole);
  for (const index of whole.chunks.keys()) {
    const chunk = readChunkOf(parts, index);
    t.ok(chunk.equals(bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes)));
    t.equal(digestOfChunk(chunk), whole.chunks[index]);
    t.equal(chunk.length, chunkLengthOf(whole, index));
  }
  t.equal(
    codeThrownBy(() => readChunkOf(parts, 3)),
    'PROTOCOL_INVALID',
  );
  t.equal(readChunkOf([bytes], 1).buffer, bytes.buffer, 'a chunk that lies in one part is not copied');
  t.end();
});

void t.test('parts of an object are bytes, wherever they lie in their buffers', t => {
  const numbers = new Float32Array(1000).map((_, index) => index);
  const view = new Uint8Array(numbers.buffer, 4, 2000);
  t.equal(manifestOf([view]).digest, manifestOf([Buffer.from(view)]).digest);
  t.ok(readChunkOf([view], 0).equals(Buffer.from(view)));
  t.end();
});

void t.test('an invalid manifest is refused', t => {
  const good = manifestOf([numbered(2 * chunkBytes + 5)]);
  const changed = (change: (bytes: Buffer) => void): Buffer => {
    const bytes = Buffer.from(good.bytes);
    change(bytes);
    return bytes;
  };
  const bad: Readonly<Record<string, Uint8Array>> = {
    'no bytes': Buffer.alloc(0),
    'a size alone': good.bytes.subarray(0, 8),
    'half a digest': good.bytes.subarray(0, 8 + 80),
    'a chunk too few': good.bytes.subarray(0, 8 + 64),
    'a chunk too many': Buffer.concat([good.bytes, Buffer.alloc(32)]),
    'size 0': changed(bytes => bytes.writeBigUInt64BE(0n)),
    'a size for one chunk less': changed(bytes => bytes.writeBigUInt64BE(BigInt(2 * chunkBytes))),
    'a size for one chunk more': changed(bytes => bytes.writeBigUInt64BE(BigInt(3 * chunkBytes + 1))),
    'the largest size': changed(bytes => bytes.writeBigUInt64BE(2n ** 64n - 1n)),
    'a short last chunk that is a long one too': changed(bytes => bytes.copy(bytes, 8 + 64, 8, 8 + 32)),
    'too many chunks': Buffer.alloc(8 + 32 * (maxChunks + 1)),
  };
  for (const [what, bytes] of Object.entries(bad))
    t.equal(
      codeThrownBy(() => parseManifest(bytes)),
      'PROTOCOL_INVALID',
      what,
    );
  for (const sizeBytes of [0, -1, 1.5, Number.NaN, 2 ** 60])
    t.equal(
      codeThrownBy(() => makeManifest(sizeBytes, good.chunks)),
      'PROTOCOL_INVALID',
      `size ${sizeBytes}`,
    );
  t.equal(
    codeThrownBy(() => makeManifest(5, ['../../etc/passwd'])),
    'PROTOCOL_INVALID',
  );
  t.equal(
    codeThrownBy(() => manifestOf([])),
    'REQUEST_INVALID',
  );
  t.equal(
    codeThrownBy(() => chunkLengthOf(good, 3)),
    'PROTOCOL_INVALID',
  );
  t.end();
});

void t.test('the largest object has a manifest, and one byte more is refused', t => {
  const full = new Array<string>(maxChunks).fill(sha256(Buffer.alloc(chunkBytes)));
  const manifest = makeManifest(maxObjectBytes, full);
  t.equal(manifest.sizeBytes, 2 ** 31);
  t.same([...distinctChunks(manifest)], [[full[0], 0]], 'a chunk that comes again is named once');
  t.equal(
    codeThrownBy(() => makeManifest(maxObjectBytes + 1, [...full, full[0] ?? ''])),
    'PROTOCOL_INVALID',
  );
  t.end();
});

void t.test('a manifest does not change when its input buffer changes', t => {
  const { bytes, digest } = manifestOf([numbered(10)]);
  const read = Buffer.from(bytes);
  const manifest = parseManifest(read);
  read.fill(0);
  t.equal(sha256(manifest.bytes), digest);
  t.end();
});
