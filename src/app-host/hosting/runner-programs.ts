/** The paths of the programs that runners run: in the built package, also when the rest runs from its sources. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface RunnerPrograms {
  /** Path of runner.js. */
  readonly node: string;
  /** Path of rollcall_app.py. */
  readonly python: string;
}

export function defaultRunnerPrograms(): RunnerPrograms {
  const root = packageRoot(dirname(fileURLToPath(import.meta.url)));
  return {
    node: join(root, 'dist/src/app-host/runner/main.js'),
    python: join(root, 'python/rollcall_app.py'),
  };
}

function packageRoot(folder: string): string {
  const above = dirname(folder);
  return existsSync(join(folder, 'package.json')) || above === folder ? folder : packageRoot(above);
}
