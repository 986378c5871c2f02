/** The vectors of frames that the package brings, against the code and a real link. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { frameVectors } from '../../scripts/frame-vectors.js';
import { root } from '../cli/fixtures/shell.js';
import { openRaw } from '../harness/siege.js';
import { startTestLink } from '../harness/test-link.js';

interface Vectors {
  readonly refused: readonly { readonly name: string; readonly bytes: string; readonly code: string }[];
}

void t.test('docs/vectors/frames.json is what scripts/frame-vectors.ts makes', async t => {
  t.equal(await readFile(join(root, 'docs/vectors/frames.json'), 'utf8'), frameVectors());
});

void t.test('a link refuses the bytes that the vectors say, with their code', async t => {
  const test = await startTestLink(t);
  const { refused } = JSON.parse(frameVectors()) as Vectors;
  for (const { name, bytes, code } of refused) {
    const peer = await openRaw(test.link.addresses.node.port, test.ca);
    peer.write(Buffer.from(bytes, 'hex'));
    t.equal((await peer.ended).code, code, name);
    peer.destroy();
  }
});
