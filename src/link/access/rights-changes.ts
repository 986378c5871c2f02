/**
 * Reports when a principal's rights may have changed: it watches every key of the store that authenticate.ts reads. A
 * stream, which outlives the request that was authenticated, is checked again on such a change.
 */
import { allTenants, tenantOf } from '../../store/keys.js';
import type { Key, StopWatching, Store } from '../../store/store.js';
import type { Principal } from './principal.js';
import type { TokenKeys } from './tokens/keys.js';

/** Names the subject of a change: everybody, a tenant, a holder, a session or a token. */
export type Mark = string;

export type WatchRights = (listener: (mark: Mark) => void) => StopWatching;

/** The marks that concern a principal. */
export function marksOf({ tenant, id, tokenId, session }: Principal): Mark[] {
  const marks = [everybody, ofTenant(tenant), ofHolder(tenant, id), ofToken(tokenId)];
  return session === undefined ? marks : [...marks, ofSession(session)];
}

const everybody: Mark = 'everybody';
const ofTenant = (tenant: string): Mark => `tenant ${tenant}`;
const ofHolder = (tenant: string, id: string): Mark => `holder ${tenant} ${id}`;
const ofToken = (id: string): Mark => `token ${id}`;
const ofSession = (id: string): Mark => `session ${id}`;

/** By the first part of a key of a tenant; what follows it is an id. */
const markers: Readonly<Record<string, (tenant: string, id: string) => Mark>> = {
  user: ofHolder,
  service: ofHolder,
  node: (tenant, id) => ofHolder(tenant, `node:${id.replace(/^0+/, '')}`),
  token: (_, id) => ofToken(id),
  family: (_, id) => ofSession(id),
  // A role is held by anybody, and a cutoff ends everybody's tokens.
  role: ofTenant,
  cutoff: ofTenant,
};

const deniedPrefix: Key = 'access/denied/';

export interface RightsSources {
  readonly store: Pick<Store, 'watch'>;
  readonly keys: Pick<TokenKeys, 'watch'>;
}

/**
 * Calls after each commit that changed an account, a role, a token, a session, a cutoff or the deny list, and after each
 * change of the keys that tokens are verified with.
 */
export function watchRights({ store, keys }: RightsSources, listener: (mark: Mark) => void): StopWatching {
  const stopTenants = store.watch(allTenants, changes => {
    for (const { key } of changes) {
      const mark = markOf(key);
      if (mark !== undefined) listener(mark);
    }
  });
  const stopDenied = store.watch(deniedPrefix, changes => {
    for (const { key } of changes) listener(ofToken(key.slice(key.lastIndexOf('/') + 1)));
  });
  const stopKeys = keys.watch(() => listener(everybody));
  return () => {
    stopKeys();
    stopTenants();
    stopDenied();
  };
}

function markOf(key: Key): Mark | undefined {
  const [room = '', id = ''] = key.slice(key.indexOf('/', allTenants.length) + 1).split('/', 2);
  return Object.hasOwn(markers, room) ? markers[room]?.(tenantOf(key), id) : undefined;
}
