/**
 * Roles of a tenant: the built-in ones, which never change, and those its admins define. What a principal may do is
 * looked up here at every request, so that a role taken away or changed counts from the next request on.
 */
import { RollcallError } from '../../../base/errors.js';
import { visibleText } from '../../../base/text.js';
import { defaultTenant } from '../../../protocol/limits.js';
import type { Actor, Audit, AuditEvent } from '../../audit/audit.js';
import { tenantPrefix } from '../../../store/keys.js';
import type { Reads, Store } from '../../../store/store.js';
import { isAccessName, notFound, parseAccessName, requireFew } from './names.js';
import { builtInRoles, isPermission, linkWide, type Permission } from '../permissions.js';
import { decide, listRecords, putRecord, readRecord, type Grounds } from '../records.js';

export interface Role {
  readonly name: string;
  readonly permissions: readonly Permission[];
  readonly builtIn: boolean;
}

type RoleRecord = Pick<Role, 'name' | 'permissions'>;

const keyOf = (tenant: string, name: string): string => `${tenantPrefix(tenant)}role/${name}`;

export class Roles {
  readonly #options: { readonly store: Store; readonly audit: Audit };

  constructor(options: { readonly store: Store; readonly audit: Audit }) {
    this.#options = options;
  }

  /** Built-in ones first. */
  async list(tenant: string): Promise<Role[]> {
    const own = await listRecords<RoleRecord>(this.#options.store, `${tenantPrefix(tenant)}role/`);
    const builtIn = Object.entries(builtInRoles).map(([name, permissions]) => ({
      name,
      permissions: permissions.filter(each => holds(tenant, each)),
      builtIn: true,
    }));
    return [...builtIn, ...own.map(role => ({ ...role, builtIn: false }))];
  }

  /** Makes a role or changes it; REQUEST_INVALID for a built-in one or a permission that is not one. */
  async define(
    tenant: string,
    { name, permissions }: { name: string; permissions: readonly string[] },
    by: Actor,
    grounds?: Grounds,
  ): Promise<Role> {
    parseAccessName(name, 'role name');
    // In any case: an "Admin" beside the admin would only mislead.
    if (Object.hasOwn(builtInRoles, name.toLowerCase()))
      throw new RollcallError('REQUEST_INVALID', `the role ${name} is built in and cannot be changed`);
    const role = { name, permissions: parsePermissions(tenant, permissions) };
    return decide(this.#options.store, async reads => {
      await grounds?.(reads);
      const before = await this.#find(tenant, name, reads);
      const event: AuditEvent = {
        type: before ? 'role.changed' : 'role.defined',
        subject: name,
        by,
        detail: { permissions: role.permissions.join(' ') },
      };
      return {
        changes: [putRecord(keyOf(tenant, name), role), this.#options.audit.auditChange(tenant, event)],
        result: { ...role, builtIn: false },
      };
    });
  }

  async remove(tenant: string, name: string, by: Actor, grounds?: Grounds): Promise<void> {
    await decide(this.#options.store, async reads => {
      await grounds?.(reads);
      if (!(await readRecord<RoleRecord>(reads, keyOf(tenant, name))))
        throw notFound('role that could be removed');
      return {
        changes: [
          { type: 'delete', key: keyOf(tenant, name) },
          this.#options.audit.auditChange(tenant, { type: 'role.removed', subject: name, by }),
        ],
        result: undefined,
      };
    });
  }

  /** The permissions of these roles together; a role that does not exist has none. */
  async permissionsOf(
    tenant: string,
    names: readonly string[],
    reads?: Reads,
  ): Promise<ReadonlySet<Permission>> {
    const found = await Promise.all(names.map(name => this.#find(tenant, name, reads)));
    return new Set(found.flatMap(each => each ?? []).filter(each => holds(tenant, each)));
  }

  /** Throws REQUEST_INVALID naming the roles that are not there, or for more than anybody needs. */
  async requireAll(tenant: string, names: readonly string[], reads?: Reads): Promise<void> {
    requireFew(names, 'roles');
    const found = await Promise.all(names.map(name => this.#find(tenant, name, reads)));
    const missing = names.filter((_, index) => !found[index]);
    if (missing.length === 0) return;
    throw new RollcallError('REQUEST_INVALID', `there is no role ${visibleText(missing.join(', '))}`, {
      hint: '`rollcall roles list` shows the roles',
    });
  }

  async #find(
    tenant: string,
    name: string,
    reads: Reads = this.#options.store,
  ): Promise<readonly Permission[] | undefined> {
    if (Object.hasOwn(builtInRoles, name)) return builtInRoles[name];
    if (!isAccessName(name)) return undefined;
    return (await readRecord<RoleRecord>(reads, keyOf(tenant, name)))?.permissions;
  }
}

function holds(tenant: string, permission: Permission): boolean {
  return tenant === defaultTenant || !linkWide.has(permission);
}

function parsePermissions(tenant: string, texts: readonly string[]): Permission[] {
  requireFew(texts, 'permissions');
  const unknown = texts.filter(text => !isPermission(text) || !holds(tenant, text));
  if (unknown.length > 0) {
    throw new RollcallError('REQUEST_INVALID', `no permission here: ${visibleText(unknown.join(', '))}`, {
      hint: '`rollcall roles list` shows the permissions',
    });
  }
  return [...new Set(texts.filter(isPermission))].sort();
}
