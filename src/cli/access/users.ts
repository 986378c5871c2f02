/** `rollcall users list|create|change|delete`: the accounts of the tenant. */
import type { User, UserChange } from '../../control-client/answers.js';
import { exitCodes } from '../failure.js';
import { formatMoment } from '../format.js';
import type { Shell } from '../shell.js';
import type { Column, Row } from '../table.js';
import { parseEnabled, parseList, requireChange, type EnableFlags } from './arguments.js';
import { openAccess, type AskFlags } from './with-link.js';
import { askNewPassword } from './passwords.js';
import { enabledShade, enabledText, momentOrNull, printDone, printJson, printTable } from './showing.js';

export interface NewUserFlags extends AskFlags {
  readonly role: readonly string[];
  readonly passwordFile?: string;
}

export interface UserChangeFlags extends AskFlags, EnableFlags {
  readonly role?: readonly string[];
  readonly endSessions?: boolean;
  readonly removeSecondFactor?: boolean;
}

const columns: readonly Column[] = [
  { header: 'User' },
  { header: 'Roles', clipTo: 10 },
  { header: 'Status', shade: enabledShade },
  { header: 'Second Factor', dropRank: 3 },
  { header: 'Created', minWidth: 20, dropRank: 2 },
  { header: 'ID', dropRank: 1 },
];

export async function listUsers(shell: Shell, flags: AskFlags): Promise<number> {
  const users = await (await openAccess(shell, flags)).users.list();
  if (flags.json) printJson(shell, users.map(userJson));
  else printTable(shell, columns, users.map(userRow));
  return exitCodes.done;
}

function userRow({ id, name, roles, enabled, secondFactor, createdAt }: User): Row {
  const factor = secondFactor ? 'on' : 'off';
  return [name, roles.join(', '), enabledText(enabled), factor, formatMoment(createdAt), id];
}

export function userJson({ id, name, roles, enabled, secondFactor, createdAt }: User): object {
  return { id, name, roles, enabled, secondFactor, createdAt: momentOrNull(createdAt) };
}

export async function createUser(shell: Shell, name: string, flags: NewUserFlags): Promise<number> {
  const { users } = await openAccess(shell, flags);
  const password = await askNewPassword(shell, flags.passwordFile);
  const user = await users.create({ name, roles: parseList(flags.role), password });
  if (flags.json) printJson(shell, userJson(user));
  else printDone(shell, `User ${user.name} created${asRoles(user.roles)}.`);
  return exitCodes.done;
}

export async function changeUser(shell: Shell, name: string, flags: UserChangeFlags): Promise<number> {
  const change: UserChange = requireChange({
    ...(flags.role && { roles: parseList(flags.role) }),
    ...parseEnabled(flags),
    ...(flags.endSessions && { endSessions: true }),
    ...(flags.removeSecondFactor && { removeSecondFactor: true }),
  });
  const { users } = await openAccess(shell, flags);
  const user = await users.change(name, change);
  if (flags.json) printJson(shell, userJson(user));
  else printDone(shell, `User ${user.name} changed: ${changeText(user, change)}.`);
  return exitCodes.done;
}

/** The name is free for another account afterwards. */
export async function deleteUser(shell: Shell, name: string, flags: AskFlags): Promise<number> {
  const { users } = await openAccess(shell, flags);
  await users.delete(name);
  if (flags.json) printJson(shell, { deleted: name });
  else printDone(shell, `User ${name} deleted; all logins and tokens of the user have ended.`);
  return exitCodes.done;
}

function asRoles(roles: readonly string[]): string {
  return roles.length > 0 ? ` as ${roles.join(', ')}` : ' without a role';
}

function changeText(user: User, change: UserChange): string {
  const parts = [
    change.roles && (user.roles.length > 0 ? `now ${user.roles.join(', ')}` : 'without a role'),
    change.enabled !== undefined && enabledText(user.enabled),
    (change.endSessions || change.enabled === false) && 'all logins and API tokens ended',
    change.removeSecondFactor && 'second factor removed',
  ];
  return parts.filter(part => typeof part === 'string').join(', ');
}
