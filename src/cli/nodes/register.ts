/** `rollcall nodes register FILE…`: makes public keys known to the link. */
import { loadPublicKeyFile } from '../../identity/key-file.js';
import type { PublicKey } from '../../identity/public-key.js';
import type { Node } from '../../protocol/generated/rollcall/v1/control.js';
import type { ControlFlags } from '../control-options.js';
import { exitCodes, reportFailure, usageError } from '../failure.js';
import { toJson } from '../format.js';
import { paintOf, printHint, type Shell } from '../shell.js';
import { plainText } from '../../base/text.js';
import { parseLabels } from './arguments.js';
import { asking, someWords } from './with-link.js';
import { nodeJson } from '../../protocol/node-json.js';

export interface RegisterFlags extends ControlFlags {
  readonly name?: string;
  readonly label?: readonly string[];
  readonly again?: boolean;
  readonly json?: boolean;
}

interface KeyFile {
  readonly path: string;
  readonly key: PublicKey;
}

/** Every file is read before the first key is registered; a refused key does not keep the others out. */
export async function registerNodes(shell: Shell, typed: string[], flags: RegisterFlags): Promise<number> {
  const paths = someWords(shell, typed, 'file');
  const labels = parseLabels(flags.label);
  if (flags.name !== undefined && paths.length > 1) {
    throw usageError(
      '--name goes with a single key file',
      'a name belongs to one node; register the others without it',
    );
  }
  const files: KeyFile[] = [];
  for (const path of paths) files.push({ path, key: await loadPublicKeyFile(path) });

  return asking(shell, flags, async (known, progress) => {
    const nodes: Node[] = [];
    let code: number = exitCodes.done;
    for (const [index, file] of files.entries()) {
      if (files.length > 1) progress.say(`registering ${index + 1} of ${files.length}`);
      try {
        const node = await known.register({
          publicKey: file.key.spki,
          name: flags.name ?? '',
          labels,
          again: flags.again ?? false,
        });
        progress.clear();
        nodes.push(node);
        if (!flags.json) printRegistered(shell, node);
        if (flags.again && flags.name === undefined && node.name !== '')
          printHint(shell, `it keeps the name ${plainText(node.name)}; --name gives it another`);
      } catch (error) {
        progress.clear();
        code = reportFailure(shell, error, files.length > 1 ? file.path : undefined);
        if (code === exitCodes.unreachable) break;
      }
    }
    if (flags.json) shell.stdout.write(`${toJson(nodes.map(nodeJson), 2)}\n`);
    return code;
  });
}

function printRegistered(shell: Shell, node: Node): void {
  const paint = paintOf(shell);
  shell.stdout.write(`✅ Node ${node.id} registered successfully.\n`);
  shell.stdout.write(`${paint('dim', `   ${node.fingerprint}`)}\n`);
}
