/** Text that fits a terminal: broken between words, never inside one. A word that is wider than the terminal stays whole. */
import { Help, type Command, type Option } from 'commander';
import { displayWidth, type Paint, type Shade } from './terminal.js';

/** The lines of a text, each at most so wide. */
export function wrapWords(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const longer = `${lines.at(-1) ?? ''} ${word}`;
    if (lines.length > 0 && displayWidth(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

export type Fact = readonly [name: string, value: string, shade?: Shade | undefined];

export interface FactStyle {
  readonly paint: Paint;
  /** Columns of the terminal; unbounded without it. */
  readonly maxWidth?: number | undefined;
  /** Spaces before each line. */
  readonly indent?: number;
}

/** `name  value` lines, whose values line up. */
export function formatFacts(
  facts: readonly Fact[],
  { paint, maxWidth = Infinity, indent = 0 }: FactStyle,
): string {
  const width = Math.max(0, ...facts.map(([name]) => displayWidth(name)));
  const column = indent + width + 2;
  return facts
    .map(([name, value, shade]) => {
      const lines = wrapWords(value, maxWidth - column).map(line => paint(shade, line));
      const gap = ' '.repeat(width + 2 - displayWidth(name));
      return `${' '.repeat(indent)}${paint('dim', name)}${gap}${lines.join(`\n${' '.repeat(column)}`)}\n`;
    })
    .join('');
}

/** An option or a command of a help, and what it does beside it, or below one that is too wide for that. */
export function formatHelpItem(term: string, termWidth: number, description: string, helper: Help): string {
  const width = helper.helpWidth ?? 80;
  const column = Math.min(termWidth, Math.floor(width * 0.45)) + 4;
  const [first = '', ...others] = wrapWords(description, width - column);
  const isBeside = displayWidth(term) + 4 <= column;
  const lines = isBeside ? [`  ${term}`.padEnd(column) + first] : [`  ${term}`, ' '.repeat(column) + first];
  return [...lines, ...others.map(line => ' '.repeat(column) + line)].map(line => line.trimEnd()).join('\n');
}

/** A help for a terminal of this width: paragraphs are set anew, and lines that are set in keep their columns. */
export function wrapHelp(text: string, width: number): string {
  const lines: string[] = [];
  for (const line of text.split('\n')) {
    const before = lines.at(-1) ?? '';
    const isProse = /^\S/.test(line) && /^\S.*[^:]$/.test(before) && !/^(?:usage|exit codes):/i.test(line);
    if (isProse) lines[lines.length - 1] = `${before} ${line}`;
    else lines.push(line);
  }
  return lines.flatMap(line => wrapLine(line, width)).join('\n');
}

function wrapLine(line: string, width: number): string[] {
  if (displayWidth(line) <= width) return [line];
  const [, indent = '', term = '', rest = ''] = /^( *)(\S.*? {2,})?(.*)$/.exec(line) ?? [];
  // A command that goes on in the next line says so.
  const isCommand = /^ +(?:\$|--?[a-z]|rollcall )/.test(line) && term === '';
  if (isCommand) {
    const flags = rest.replace(/ \\$/, '').split(/ (?=--?[a-z])/);
    const ends = rest.endsWith(' \\') ? ' \\' : '';
    return flags.map(
      (flag, at) => (at === 0 ? indent : '      ') + flag + (at < flags.length - 1 ? ' \\' : ends),
    );
  }
  const column = ' '.repeat(indent.length + term.length);
  return wrapWords(rest, width - column.length).map((each, at) => (at === 0 ? indent + term : column) + each);
}

/** The flags of the command itself before those that every command has. */
export function groupHelpItems<T extends Command | Option>(
  unsorted: T[],
  visible: T[],
  getGroup: (item: T) => string,
): Map<string, T[]> {
  const groups = new Help().groupItems(unsorted, visible, getGroup);
  const common = groups.get(connectionGroup);
  if (common && groups.delete(connectionGroup)) groups.set(connectionGroup, common);
  return groups;
}

/** Heading of the flags that say how the link is reached. */
export const connectionGroup = 'Connection to the link:';
