/** `rollcall audit export FILE`: the whole log, its checkpoints and the public key, in a file that can be checked anywhere. */
import { writeLines } from './audit-files.js';
import type { AskAudit } from './audit-control.js';
import type { ControlFlags } from './control-options.js';
import { formatCount } from './format.js';
import { printHint, type Shell } from './shell.js';
import { plainText } from './terminal.js';

export async function exportAudit(
  shell: Shell,
  file: string,
  flags: ControlFlags,
  ask: AskAudit,
): Promise<number> {
  return ask(shell, flags, async (source, progress) => {
    const count = await writeLines(file, source.exportLines());
    progress.clear();
    shell.stdout.write(`✅ ${formatCount(count, 'line')} written to ${plainText(file)}.\n`);
    printHint(shell, `check it with: rollcall audit verify ${plainText(file)} --checkpoint FILE`);
    return undefined;
  });
}
