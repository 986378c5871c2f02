/**
 * The files of the `audit` commands: exports, which may be of any size and may have been made by anybody, and
 * checkpoints that were kept.
 */
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { findCheckpoint, type Checkpoint } from '../audit-log/checkpoint.js';
import { maxLineLength } from '../audit-log/export-line.js';
import { fileError, RollcallError } from '../base/errors.js';
import { readSmallFile } from '../base/secret-file.js';
import { printDone, printJson } from './access/showing.js';
import type { AskAudit } from './audit-control.js';
import type { ControlFlags } from './control-options.js';
import { formatCount } from './format.js';
import { printHint, type Shell } from './shell.js';
import { plainText } from '../base/text.js';

/** The lines of a file, of which none takes more memory than the longest there may be. */
export async function* readLines(path: string): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let length = 0;
  const keep = (part: Buffer): void => {
    if (length <= maxLineLength) parts.push(part.subarray(0, maxLineLength + 1 - length));
    length += part.length;
  };
  const take = (): string => {
    const line = lineOf(Buffer.concat(parts));
    parts = [];
    length = 0;
    return line;
  };
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
        keep(chunk.subarray(start, end));
        yield take();
        start = end + 1;
      }
      keep(chunk.subarray(start));
    }
  } catch (error) {
    throw fileError('read', path, error);
  }
  if (length > 0) yield take();
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes that are no UTF-8, and lines that are too long, come out as text that is no line of an export either. */
function lineOf(bytes: Buffer): string {
  if (bytes.length > maxLineLength) return bytes.toString('latin1');
  try {
    return utf8.decode(bytes);
  } catch {
    return '\ufffd';
  }
}

const chunkLength = 64 * 1024;

/** Writes lines to a new file, 0600, and gives their number; FILE_EXISTS rather than overwrite. A failure leaves no file. */
export async function writeLines(path: string, lines: AsyncIterable<string>): Promise<number> {
  const handle = await open(path, 'wx', 0o600).catch((error: unknown) => {
    throw fileError('write', path, error);
  });
  let count = 0;
  let chunk = '';
  try {
    for await (const line of lines) {
      count += 1;
      chunk += `${line}\n`;
      if (chunk.length < chunkLength) continue;
      await handle.appendFile(chunk);
      chunk = '';
    }
    await handle.appendFile(chunk);
    await handle.sync();
  } catch (error) {
    await rm(path, { force: true }).catch(() => undefined);
    throw fileError('write', path, error);
  } finally {
    await handle.close();
  }
  return count;
}

const checkpointFileBytes = 64 * 1024;

/** Reads a checkpoint that was kept; CONFIG_INVALID when the file holds something else. */
export async function readCheckpointFile(path: string): Promise<Checkpoint> {
  const text = (await readSmallFile(path, 'checkpoint', checkpointFileBytes)).toString('utf8');
  const checkpoint = findCheckpoint(parseJson(text));
  if (checkpoint) return checkpoint;
  throw new RollcallError('CONFIG_INVALID', `${path} does not hold a checkpoint`, {
    hint: 'rollcall audit checkpoint FILE writes one',
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `rollcall audit export FILE`: the whole log, its checkpoints and the public key, in a file that can be checked anywhere. */
export async function exportAudit(
  shell: Shell,
  file: string,
  flags: ControlFlags & { readonly json?: boolean },
  ask: AskAudit,
): Promise<number> {
  return ask(shell, flags, async (source, progress) => {
    const count = await writeLines(file, source.exportLines());
    progress.clear();
    if (flags.json) printJson(shell, { output: file, lines: count });
    else printDone(shell, `${formatCount(count, 'line')} written to ${file}.`);
    printHint(shell, `check it with: rollcall audit verify ${plainText(file)} --checkpoint FILE`);
    return undefined;
  });
}
