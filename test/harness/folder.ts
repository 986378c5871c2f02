/** A folder of the test's own, for tests that need no link. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

export async function makeFolder(t: Pick<Test, 'teardown'>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rollcall-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
