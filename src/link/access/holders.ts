/** The holder of a token or a session, by the id that stands in it, as the audit log names them. */
import type { Party, PartyKind } from '../../audit-log/party.js';
import type { Services } from './services.js';
import type { Users } from './users.js';

/** Never fails for a holder that is gone or disabled: what they did still has to be told. */
export type FindParty = (tenant: string, id: string) => Promise<Party>;

export interface HolderOptions {
  readonly users: Pick<Users, 'find'>;
  readonly services: Pick<Services, 'find'>;
  /** The name of a node that is registered and not revoked; its id when it has none. */
  readonly findNodeName: (tenant: string, id: string) => Promise<string | undefined>;
}

export function createFindParty({ users, services, findNodeName }: HolderOptions): FindParty {
  return async (tenant, id) => {
    const [kind = '', local = ''] = id.split(':', 2);
    if (!isHolderKind(kind)) return { kind: 'anonymous', id, name: id };
    const name =
      kind === 'node'
        ? await findNodeName(tenant, local)
        : (await (kind === 'user' ? users : services).find(tenant, id))?.name;
    return { kind, id, name: name ?? local };
  };
}

function isHolderKind(kind: string): kind is Extract<PartyKind, 'user' | 'service' | 'node'> {
  return kind === 'user' || kind === 'service' || kind === 'node';
}
