import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * True when the module with this `import.meta.url` is the program that was started, through a symlink too: Node.js
 * gives a module by its real path, and the program by the path that was typed.
 */
export function isMainModule(moduleUrl: string): boolean {
  const [, program] = process.argv;
  if (program === undefined) return false;
  try {
    return realpathSync(program) === fileURLToPath(moduleUrl);
  } catch {
    // A first argument that is no file, as after `node -e`.
    return false;
  }
}
