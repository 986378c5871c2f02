/** How the commands about access print: tables, JSON, and what was done. Text from others cannot move the cursor. */
import { formatRfc3339 } from '../../base/rfc3339.js';
import { toJson } from '../format.js';
import { printLeftOut, tableStyleOf, type Shell } from '../shell.js';
import { createTable, type Column, type Row } from '../table.js';
import { plainText } from '../../base/text.js';
import type { Shade } from '../terminal.js';
import { formatFacts, type Fact } from '../wrap.js';

export function printJson(shell: Shell, value: unknown): void {
  shell.stdout.write(`${toJson(value, 2)}\n`);
}

export function printTable(shell: Shell, columns: readonly Column[], rows: readonly Row[]): void {
  const table = createTable(columns, rows, tableStyleOf(shell));
  shell.stdout.write(table.head() + table.rows(rows) + table.foot());
  printLeftOut(shell, table);
}

/** One sentence about what is now so. */
export function printDone(shell: Shell, sentence: string): void {
  shell.stdout.write(`✅ ${plainText(sentence)}\n`);
}

/** `name  value` lines below it. */
export function printFacts(shell: Shell, facts: readonly Fact[], indent = 3): void {
  const clean = facts.map(([name, value, shade]) => [name, plainText(value), shade] as const);
  shell.stdout.write(formatFacts(clean, { ...tableStyleOf(shell), indent }));
}

/** A secret alone, so that it can go straight into a file. */
export function printSecret(shell: Shell, secret: string): void {
  shell.stdout.write(`${plainText(secret)}\n`);
}

/** RFC 3339, or null for no moment. */
export function momentOrNull(atMs: number): string | null {
  return formatRfc3339(atMs) ?? null;
}

export function enabledText(enabled: boolean): string {
  return enabled ? 'enabled' : 'disabled';
}

/** Stands out only where somebody is kept out. */
export function enabledShade(text: string): Shade | undefined {
  return text === enabledText(false) ? 'red' : undefined;
}
