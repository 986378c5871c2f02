/** How keys are spelled, so that they sort as their parts do and no part can reach into another's keys. */
import type { Key, Store } from './store.js';

/** Everything of any tenant is below this. */
export const allTenants: Key = 't/';

/** Everything of a tenant is below this. Any text is safe: what is not a plain character is escaped. */
export function tenantPrefix(tenant: string): Key {
  const escaped = tenant.replaceAll(
    /[^A-Za-z0-9._-]/g,
    character => `%${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `${allTenants}${escaped}/`;
}

/** The tenant of a key below `t/`. */
export function tenantOf(key: Key): string {
  const escaped = key.slice(2, key.indexOf('/', 2));
  return escaped.replaceAll(/%([0-9a-f]{4})/g, (_, code: string) =>
    String.fromCharCode(Number.parseInt(code, 16)),
  );
}

/** The tenants that hold anything, by leaping from one to the next. */
export async function listTenants(store: Store): Promise<string[]> {
  const tenants: string[] = [];
  for (let after: Key | undefined; ;) {
    const [entry] = await store.list({ prefix: allTenants, after, limit: 1 });
    if (!entry) return tenants;
    const tenant = tenantOf(entry.key);
    tenants.push(tenant);
    after = `${tenantPrefix(tenant)}\x7f`;
  }
}

/** A whole number with zeros before it, so that text order is number order. */
export function padded(value: number | bigint, digits: number): string {
  return value.toString().padStart(digits, '0');
}
