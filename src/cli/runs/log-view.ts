/** Lines of a log as people and machines read them. Whatever they hold, nothing in them moves the cursor or passes for another line. */
import type { RunLogEntry } from '../../protocol/generated/rollcall/v1/runs.js';
import { formatMoment, formatRfc3339 } from '../format.js';
import { displayWidth, plainText, type Paint, type Shade } from '../terminal.js';

const shades: Partial<Record<string, Shade>> = { warn: 'yellow', error: 'red', debug: 'dim', link: 'dim' };

/** Who said it, where no node did. */
export function speakerOf({ level }: RunLogEntry): string {
  return level === 'link' ? 'link' : 'server';
}

/** When, who, what; every line of the text but the first is set in, so that none looks like an entry of its own. */
export function formatEntry(entry: RunLogEntry, who: string, width: number, paint: Paint): string {
  const name = plainText(who);
  const head = `${formatMoment(entry.atMs)}  ${name}${' '.repeat(Math.max(0, width - displayWidth(name)))}  `;
  const isNamed = entry.level !== 'info' && entry.level !== 'link';
  const text = `${isNamed ? `${plainText(entry.level)}: ` : ''}${entry.text}`;
  const indent = `\n${' '.repeat(displayWidth(head))}`;
  const lines = text.replace(/\n+$/, '').split('\n');
  return head + lines.map(line => paint(shades[entry.level], harmless(line))).join(indent);
}

/** As it is, spaces and all, without what a terminal would obey or not show. */
function harmless(line: string): string {
  return line
    .replaceAll('\t', '    ')
    .replaceAll(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, '')
    .trimEnd();
}

export function entryJson({ number, atMs, node, level, text }: RunLogEntry): Record<string, unknown> {
  return {
    number: Number(number),
    at: formatRfc3339(atMs) ?? null,
    node: node === 0n ? null : `${node}`,
    level,
    text,
  };
}
