/**
 * The signed list of what was revoked in a tenant (tokens/revoked-list.ts), for those who verify tokens without asking:
 * the deny list, holders that are disabled or whose tokens were ended, and what was ended of the tenant.
 */
import { CompactSign } from 'jose';
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import { encodeRevokedList, maxRevokedEntries, revokedListType } from '../../../tokens/revoked-list.js';
import { createBoundedMap } from '../bounded-map.js';
import type { Cutoffs } from './cutoffs.js';
import type { Denied } from './deny-list.js';
import { usedAssertion } from '../login/service-login.js';
import type { Services } from '../accounts/services.js';
import type { TokenKeys } from './keys.js';
import { maxApiTokenMs } from './lifetimes.js';
import type { Users } from '../accounts/users.js';

/** Gives the list of a tenant as it is now, or was seconds ago. REQUEST_INVALID where nobody could verify it. */
export type SignRevokedList = (tenant: string) => Promise<string>;

/** A verifier fetches the next one well before, ms. */
export const revokedListLifetimeMs = 5 * 60_000;
/** One that was made so recently is handed out again: making one reads every account of the tenant, ms. */
const freshMs = 2_000;
const listsKept = 100;

export interface RevokedListOptions {
  readonly keys: Pick<TokenKeys, 'signingKey' | 'watch'>;
  readonly denied: Pick<Denied, 'list'>;
  readonly users: Pick<Users, 'list'>;
  readonly services: Pick<Services, 'list'>;
  readonly cutoffs: Pick<Cutoffs, 'of'>;
  readonly clock: Clock;
  readonly issuer: () => string;
  /** The link, as `aud`. */
  readonly audience: string;
}

export function createRevokedLists(options: RevokedListOptions): SignRevokedList {
  const { keys, denied, users, services, cutoffs, clock, issuer, audience } = options;
  const noLists = () =>
    createBoundedMap<{ readonly madeAt: number; readonly list: Promise<string> }>(listsKept);
  let made = noLists();
  // One whose key was dropped would be verified by nobody.
  keys.watch(() => (made = noLists()));

  async function readTenant(tenant: string, expiresAt: number) {
    const holders = [...(await users.list(tenant)), ...(await services.list(tenant))];
    const off = holders.filter(({ enabled }) => !enabled).map(({ id }) => ({ id, endsAt: expiresAt }));
    const gone = denied.list(tenant).filter(({ id }) => !id.startsWith(usedAssertion));
    // A token from before that has ended by itself.
    const cut = holders.filter(({ validAfter }) => validAfter + maxApiTokenMs > clock.now());
    const ids = lastOnes([...off, ...gone].map(({ id, endsAt }) => [id, endsAt]));
    const holdersNotBefore = lastOnes(cut.map(({ id, validAfter }) => [id, validAfter]));
    const isComplete = off.length + gone.length <= maxRevokedEntries && cut.length <= maxRevokedEntries;
    const { before, spans } = cutoffs.of(tenant);
    const notBetween = spans.filter(span => span.before + maxApiTokenMs > clock.now());
    return { ids, holdersNotBefore, isComplete, notBefore: before, notBetween };
  }

  async function sign(tenant: string): Promise<string> {
    const { kid, algorithm, key } = await keys.signingKey(audience);
    if (algorithm === 'HS256') {
      throw new RollcallError('REQUEST_INVALID', 'the tokens of this link are signed with a secret', {
        hint: 'nobody else can verify a list that is signed so; ask /auth/introspect',
      });
    }
    const issuedAt = clock.now();
    const expiresAt = issuedAt + revokedListLifetimeMs;
    const revoked = await readTenant(tenant, expiresAt);
    const payload = encodeRevokedList({ ...revoked, issuer: issuer(), tenant, issuedAt, expiresAt });
    return new CompactSign(payload)
      .setProtectedHeader({ alg: algorithm, typ: revokedListType, kid })
      .sign(key);
  }

  return tenant => {
    const last = made.get(tenant);
    if (last && clock.now() - last.madeAt < freshMs) return last.list;
    const list = sign(tenant);
    made.set(tenant, { madeAt: clock.now(), list });
    list.catch(() => made.delete(tenant));
    return list;
  };
}

/** As many as a list may hold, those with the latest times. */
function lastOnes(entries: readonly (readonly [string, number])[]): ReadonlyMap<string, number> {
  return new Map([...entries].sort(([, one], [, other]) => other - one).slice(0, maxRevokedEntries));
}
