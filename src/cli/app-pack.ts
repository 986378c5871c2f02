/** `rollcall app pack`: what an app consists of, as a run would take it. */
import { resolve } from 'node:path';
import { packApp, type AppPackage } from '../app-package/app-package.js';
import { printDone, printFacts, printJson, printTable } from './access/showing.js';
import { exitCodes } from './failure.js';
import type { Shell } from './shell.js';

export interface AppPackFlags {
  readonly files?: boolean;
  readonly json?: boolean;
}

export async function showApp(shell: Shell, folder: string, flags: AppPackFlags): Promise<number> {
  const app = await packApp(resolve(folder));
  if (flags.json) {
    const { files, ...rest } = app;
    printJson(shell, { ...rest, ...(flags.files && { files }) });
    return exitCodes.done;
  }
  printDone(shell, `${app.manifest.name} ${app.manifest.version} is ready to run.`);
  printFacts(shell, factsOf(app));
  if (flags.files) {
    shell.stdout.write('\n');
    const columns = [{ header: 'File' }, { header: 'Bytes' }, { header: 'SHA-256' }];
    printTable(
      shell,
      columns,
      app.files.map(({ path, sizeBytes, digest }) => [path, `${sizeBytes}`, digest]),
    );
  }
  return exitCodes.done;
}

function factsOf({ manifest, digest, files, sizeBytes }: AppPackage): [string, string][] {
  const settings = Object.entries(manifest.config).map(([name, value]) => `${name}=${String(value)}`);
  return [
    ['Digest', digest],
    ['Files', `${files.length}, ${sizeBytes} bytes`],
    ['Server half', manifest.server],
    ['Node half', manifest.node],
    ['Settings', settings.length > 0 ? settings.join(' ') : 'none'],
  ];
}
