/** The holder of a token or a session, by the id that stands in it, as the audit log names them. */
import type { Party, PartyKind } from '../../../audit-log/party.js';
import type { Reads } from '../../../store/store.js';
import type { Services } from './services.js';
import type { Users } from './users.js';

/** Never fails for a holder that is gone or disabled: what they did still has to be told. */
export type FindParty = (tenant: string, id: string, reads?: Reads) => Promise<Party>;

/** The name of a node that is registered and not revoked; its id when it has none. */
export type FindNodeName = (tenant: string, id: string, reads?: Reads) => Promise<string | undefined>;

export interface HolderOptions {
  readonly users: Pick<Users, 'find'>;
  readonly services: Pick<Services, 'find'>;
  readonly findNodeName: FindNodeName;
}

export function createFindParty({ users, services, findNodeName }: HolderOptions): FindParty {
  return async (tenant, id, reads) => {
    const [kind = '', local = ''] = id.split(':', 2);
    if (!isHolderKind(kind)) return { kind: 'anonymous', id, name: id };
    const name =
      kind === 'node'
        ? await findNodeName(tenant, local, reads)
        : (await (kind === 'user' ? users : services).find(tenant, id, reads))?.name;
    return { kind, id, name: name ?? local };
  };
}

function isHolderKind(kind: string): kind is Extract<PartyKind, 'user' | 'service' | 'node'> {
  return kind === 'user' || kind === 'service' || kind === 'node';
}
