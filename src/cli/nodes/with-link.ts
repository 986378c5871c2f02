/** The frame of every `nodes` command: settings, connection, progress, and closing. */
import { openNodes, type Nodes } from '../../control-client/nodes.js';
import { openControlSettings, type ControlFlags } from '../control-options.js';
import { exitCodes, usageError } from '../failure.js';
import { startProgress, type Progress } from '../progress.js';
import { printHint, warnOn, type Shell } from '../shell.js';
import { plainText } from '../../base/text.js';
import { forgiveFederation } from './arguments.js';

/** Asks the link the flags name; the connection is closed and the progress gone however it ends. */
export async function asking(
  shell: Shell,
  flags: ControlFlags,
  ask: (nodes: Nodes, progress: Progress, addressText: string) => Promise<number | undefined>,
): Promise<number> {
  const { target, tokens } = await openControlSettings(flags, shell.environment, warnOn(shell));
  const nodes = openNodes(target, tokens);
  const progress = startProgress(shell, `waiting for ${target.addressText}`);
  try {
    return (await ask(nodes, progress, target.addressText)) ?? exitCodes.done;
  } finally {
    progress.clear();
    nodes.close();
  }
}

/** The words that were meant, without the app and federation that Flower's commands take; says so when there were any. */
export function meantWords(shell: Shell, typed: readonly string[]): string[] {
  const { words, dropped } = forgiveFederation(typed);
  if (dropped !== undefined)
    printHint(shell, `"${plainText(dropped)}" is not needed: the link holds one fleet`);
  return words;
}

/** Like meantWords, and refuses to go on with none. */
export function someWords(shell: Shell, typed: readonly string[], what: string): string[] {
  const words = meantWords(shell, typed);
  if (words.length === 0) throw usageError(`missing required argument '${what}'`);
  return words;
}

/** The pages of a listing until the link has no more or `limit` items came; never more items than that. */
export async function* pages<T>(
  limit: number | undefined,
  page: (pageToken: string, max: number) => Promise<{ items: T[]; nextPageToken: string }>,
  max = 1000,
): AsyncGenerator<{ readonly items: T[]; readonly isLast: boolean }> {
  let left = limit ?? Number.POSITIVE_INFINITY;
  let pageToken = '';
  for (;;) {
    const { items, nextPageToken } = await page(pageToken, Math.min(left, max));
    const wanted = items.slice(0, left);
    left -= wanted.length;
    const isLast = nextPageToken === '' || left === 0;
    yield { items: wanted, isLast };
    if (isLast) return;
    pageToken = nextPageToken;
  }
}
