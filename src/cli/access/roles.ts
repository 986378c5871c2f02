/** `rollcall roles list|define|remove`: what the roles of the tenant allow. */
import type { Role, RoleMatrix } from '../../control-client/answers.js';
import { exitCodes } from '../failure.js';
import type { Shell } from '../shell.js';
import type { Column } from '../table.js';
import { plainText } from '../../base/text.js';
import type { Shade } from '../terminal.js';
import { openAccess, type AskFlags } from './with-link.js';
import { printDone, printJson, printTable } from './showing.js';

export interface MatrixFlags extends AskFlags {
  readonly wide?: boolean;
}

const held = '✓';

/** Permissions as rows, roles as columns. */
export async function showMatrix(shell: Shell, flags: MatrixFlags): Promise<number> {
  const matrix = await (await openAccess(shell, flags)).roles.list();
  if (flags.json) printJson(shell, matrixJson(matrix));
  else printMatrix(shell, matrix, flags.wide ?? false);
  return exitCodes.done;
}

function printMatrix(shell: Shell, { roles, permissions }: RoleMatrix, wide: boolean): void {
  const shade = (): Shade => 'green';
  const columns: Column[] = [
    { header: 'Permission' },
    ...roles.map(({ name }) => ({ header: plainText(name), shade })),
    ...(wide ? [{ header: 'Allows To', clipTo: 12, dropRank: 1 }] : []),
  ];
  const rows = permissions.map(({ name, allows }) => {
    const marks = roles.map(role => (holds(role, name) ? held : ''));
    return [name, ...marks, ...(wide ? [allows] : [])];
  });
  printTable(shell, columns, rows);
}

function holds({ permissions }: Role, name: string): boolean {
  return permissions.some(each => each === name);
}

function matrixJson({ roles, permissions }: RoleMatrix): object {
  return {
    roles: roles.map(roleJson),
    permissions: permissions.map(({ name, allows }) => ({ name, allows })),
  };
}

function roleJson({ name, builtIn, permissions }: Role): object {
  return { name, builtIn, permissions };
}

export async function defineRole(
  shell: Shell,
  name: string,
  permissions: readonly string[],
  flags: AskFlags,
): Promise<number> {
  const { roles } = await openAccess(shell, flags);
  const role = await roles.define(name, permissions);
  if (flags.json) printJson(shell, roleJson(role));
  else printDone(shell, `Role ${role.name} allows ${role.permissions.join(', ')}.`);
  return exitCodes.done;
}

export async function removeRole(shell: Shell, name: string, flags: AskFlags): Promise<number> {
  const { roles } = await openAccess(shell, flags);
  await roles.remove(name);
  if (flags.json) printJson(shell, { removed: name });
  else printDone(shell, `Role ${name} removed; who had it has what it allowed no more.`);
  return exitCodes.done;
}
