/**
 * Finds the syntax error of an app: Node.js does not name the place in a module that it was asked to import, but of a file
 * that it was asked to check.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';

const maxFiles = 20;
const timeoutMs = 5_000;

/** Such as `lib/model.js:12`; empty when nothing wrong is found in the first files. The entry is looked at first. */
export async function findSyntaxError(
  folder: string,
  entry: string,
  paths: readonly string[],
): Promise<string> {
  const others = paths.filter(
    path => path !== entry && /\.m?js$/.test(path) && !/(^|\/)node_modules\//.test(path),
  );
  for (const path of [entry, ...others].slice(0, maxFiles)) {
    const line = await checkFile(join(folder, path));
    if (line !== '') return `${path}:${line}`;
  }
  return '';
}

/** Its first line is the path and the number of the line. */
function checkFile(path: string): Promise<string> {
  return new Promise(resolve => {
    execFile(process.execPath, ['--check', path], { timeout: timeoutMs }, (error, _, stderr) => {
      const [first = ''] = stderr.split('\n');
      const line = first.startsWith(`${path}:`) ? first.slice(path.length + 1) : '';
      resolve(error && /^\d+$/.test(line) ? line : '');
    });
  });
}
