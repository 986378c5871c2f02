/** `rollcall tenants list|create|delete`: federations that know nothing of one another. */
import type { Tenant } from '../../control-client/answers.js';
import { exitCodes } from '../failure.js';
import { formatCount, formatMoment } from '../format.js';
import { printHint, type Shell } from '../shell.js';
import type { Column } from '../table.js';
import { plainText } from '../../base/text.js';
import { openAccess, type AskFlags } from './with-link.js';
import { askNewPassword } from './passwords.js';
import { momentOrNull, printDone, printJson, printTable } from './showing.js';

export interface NewTenantFlags extends AskFlags {
  readonly admin: string;
  readonly passwordFile?: string;
}

const columns: readonly Column[] = [{ header: 'Tenant' }, { header: 'Created', minWidth: 20 }];

export async function listTenants(shell: Shell, flags: AskFlags): Promise<number> {
  const tenants = await (await openAccess(shell, flags)).tenants.list();
  if (flags.json) printJson(shell, tenants.map(tenantJson));
  else {
    const rows = tenants.map(({ name, createdAt }) => [name, createdAt === 0 ? '' : formatMoment(createdAt)]);
    printTable(shell, columns, rows);
  }
  return exitCodes.done;
}

/** The default one was never made. */
function tenantJson({ name, createdAt }: Tenant): object {
  return { name, createdAt: momentOrNull(createdAt) };
}

/** With its first admin, who makes all others. */
export async function createTenant(shell: Shell, name: string, flags: NewTenantFlags): Promise<number> {
  const { tenants } = await openAccess(shell, flags);
  const password = await askNewPassword(shell, flags.passwordFile);
  const tenant = await tenants.create({ name, admin: flags.admin, password });
  if (flags.json) printJson(shell, { ...tenantJson(tenant), admin: flags.admin });
  else printDone(shell, `Tenant ${tenant.name} created; ${flags.admin} is its admin.`);
  const login = `rollcall login --profile ${tenant.name} --tenant ${tenant.name} --user ${flags.admin}`;
  printHint(shell, `its admin logs in with: ${plainText(login)}`);
  return exitCodes.done;
}

/** For good: the name stays taken. */
export async function deleteTenant(shell: Shell, name: string, flags: AskFlags): Promise<number> {
  const { tenants } = await openAccess(shell, flags);
  const { sessionsEnded } = await tenants.delete(name);
  if (flags.json) printJson(shell, { deleted: name, sessionsEnded });
  else {
    const links =
      sessionsEnded === 0 ? 'no node was connected' : `${formatCount(sessionsEnded, 'session')} ended`;
    printDone(shell, `Tenant ${name} deleted; ${links}. Its nodes and runs end, and its audit log is kept.`);
  }
  return exitCodes.done;
}
