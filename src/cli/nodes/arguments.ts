/** Reads the arguments of the `nodes` commands. Pure; mistakes are REQUEST_INVALID, exit code 2. */
import { findStatus, statusWords } from '../../protocol/node-status.js';
import type { NodeStatus } from '../../protocol/generated/rollcall/v1/control.js';
import { usageError } from '../failure.js';

/** Pages of a listing, the most the link gives at once. */
export const pageSize = 1000;

export interface Forgiven {
  readonly words: string[];
  /** The words that were ignored, as they were typed. */
  readonly dropped: string | undefined;
}

/** Takes away `.` or `. my-federation` at the end, which people coming from Flower type. */
export function forgiveFederation(words: readonly string[]): Forgiven {
  const at = [words.length - 2, words.length - 1].find(index => index >= 0 && words[index] === '.');
  if (at === undefined) return { words: [...words], dropped: undefined };
  return { words: words.slice(0, at), dropped: words.slice(at).join(' ') };
}

/** `name=value` pairs; a value may hold `=` and be empty. */
export function parseLabels(pairs: readonly string[] = []): Record<string, string> {
  const labels = new Map<string, string>();
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    if (at < 1) throw usageError(`--label: expected NAME=VALUE, found "${pair}"`);
    const name = pair.slice(0, at);
    if (labels.has(name)) throw usageError(`--label ${name} is given twice`);
    labels.set(name, pair.slice(at + 1));
  }
  return Object.fromEntries(labels);
}

/** Status words, each may hold several split at commas. */
export function parseStatuses(words: readonly string[] = []): NodeStatus[] {
  const statuses = words
    .flatMap(word => word.split(','))
    .map(word => {
      const status = findStatus(word.trim().toLowerCase());
      if (status === undefined) {
        throw usageError(`there is no status "${word}"`, `there are: ${statusWords.join(', ')}`);
      }
      return status;
    });
  return [...new Set(statuses)];
}

/** A whole number above zero; undefined stays. */
export function parseLimit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw usageError(`--limit: expected a whole number above zero, found "${text}"`);
}
