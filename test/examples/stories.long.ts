/** The page on access control is what its commands print, and the same at each run. */
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { root } from '../../scripts/running.js';

void t.test('docs/access.md is what examples/access/stories.ts prints', async t => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import=tsx', 'examples/access/stories.ts'],
    { cwd: root, encoding: 'utf8' },
  );
  t.equal(status, 0, stderr);
  t.equal(stdout, await readFile(join(root, 'docs/access.md'), 'utf8'));
});
