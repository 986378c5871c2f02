/**
 * `rollcall audit checkpoint [FILE]`: the link's signed word on where its log is now. One that was kept before is held
 * against it, so that a log that was cut or written anew shows at once, and is replaced only by a later one.
 */
import { encodeCheckpoint, findCheckpoint, type Checkpoint } from '../audit-log/checkpoint.js';
import { RollcallError } from '../base/errors.js';
import { isThere, writeWholeFile } from '../base/secret-file.js';
import { readCheckpointFile } from './audit-files.js';
import { printDone, printJson } from './access/showing.js';
import type { AskAudit } from './audit-control.js';
import type { ControlFlags } from './control-options.js';
import { toJson } from './format.js';
import { printHint, type Shell } from './shell.js';
import { plainText } from '../base/text.js';

export async function keepCheckpoint(
  shell: Shell,
  file: string | undefined,
  flags: ControlFlags & { readonly json?: boolean },
  ask: AskAudit,
): Promise<number> {
  const kept = file !== undefined && (await isThere(file)) ? await readCheckpointFile(file) : undefined;
  return ask(shell, flags, async (source, progress) => {
    const checkpoint = findCheckpoint(await source.latestCheckpoint());
    progress.clear();
    if (!checkpoint) throw new RollcallError('PROTOCOL_INVALID', 'what the link gave is not a checkpoint');
    if (file === undefined) {
      shell.stdout.write(`${toJson(JSON.parse(encodeCheckpoint(checkpoint)))}\n`);
      return undefined;
    }
    if (kept) refuseUnlessLater(kept, checkpoint, plainText(file));
    await writeWholeFile(file, `${encodeCheckpoint(checkpoint)}\n`, { overwrite: true });
    if (flags.json) printJson(shell, { output: file, seq: checkpoint.seq });
    else printDone(shell, `Checkpoint of entry ${checkpoint.seq} kept in ${file}.`);
    if (!kept) printHint(shell, 'keep it where the link cannot write');
    return undefined;
  });
}

/** Throws when the link's word of now does not go with its word of before; the file stays as it is. */
export function refuseUnlessLater(kept: Checkpoint, now: Checkpoint, file: string): void {
  const stays = `${file} stays as it is; move it away if this is as it should be`;
  const refuse = (message: string) => new RollcallError('PROOF_REFUSED', plainText(message), { hint: stays });
  if (kept.tenant !== now.tenant || kept.trustDomain !== now.trustDomain) {
    throw refuse(
      `${file} holds a checkpoint of another log: of tenant ${kept.tenant} in ${kept.trustDomain}`,
    );
  }
  if (now.seq < kept.seq) {
    throw refuse(
      `the log was cut: it ends at entry ${now.seq}, the checkpoint kept in ${file} is of entry ${kept.seq}`,
    );
  }
  if (now.seq === kept.seq && now.hash !== kept.hash) {
    throw refuse(
      `the log was written anew: entry ${now.seq} is not the one the checkpoint kept in ${file} is of`,
    );
  }
  if (now.keyFingerprint !== kept.keyFingerprint) {
    throw refuse(
      `the link signs with another key, ${now.keyFingerprint}, than the checkpoint kept in ${file}`,
    );
  }
}
