/** Accounts and tokens, as the link opens them. */
import type { FindNodeName } from '../access/accounts/holders.js';
import { openAccess, type Access } from '../access/access.js';
import type { Registry } from '../registry/registry.js';
import type { AuditTrail } from './audit-trail.js';
import type { Foundation } from './foundation.js';
import type { LinkContext } from './link-context.js';
import type { OwnAddresses } from './own-addresses.js';

/** The link as the audience of its own tokens. */
const linkAudience = 'rollcall';

export function openLinkAccess(
  { config, clock, random, log, lifecycle }: LinkContext,
  { store, audit }: Foundation,
  { alerts, refusals }: AuditTrail,
  registry: Registry,
  addresses: OwnAddresses,
): Promise<Access> {
  return lifecycle.open(
    () =>
      openAccess({
        ...{ store, audit, refusals, clock, random, log, alerts },
        folder: config['data-dir'],
        algorithms: config['token-algorithms'],
        audience: linkAudience,
        issuer: () => addresses.issuer(),
        findNodeName: (tenant, id, reads) => findNodeName(registry, tenant, id, reads),
      }),
    opened => opened.close(),
  );
}

async function findNodeName(
  registry: Registry,
  ...[tenant, id, reads]: Parameters<FindNodeName>
): Promise<string | undefined> {
  const node = /^[1-9]\d{0,19}$/.test(id) ? await registry.findNode(tenant, BigInt(id), reads) : undefined;
  if (!node || node.status === 'revoked') return undefined;
  return node.name === '' ? id : node.name;
}
