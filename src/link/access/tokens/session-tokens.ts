/**
 * The two tokens of a session: one to be shown, for a quarter of an hour, and one to get the next one with. A session
 * begins in one commit with the event that tells of it: it is whole, or has not been. What is handed out is made before
 * that commit, so that nothing is stored of a session whose tokens could not be made.
 */
import type { Reads } from '../../../store/store.js';
import type { Audit, AuditEvent } from '../../audit/audit.js';
import type { AccessTokens, SignedToken } from './access-tokens.js';
import type { Families, NewFamily } from './refresh-families.js';
import type { Family } from './refresh-family.js';
import type { Decision } from '../records.js';
import type { Roles } from '../accounts/roles.js';
import { accessLifetimeMs } from './lifetimes.js';
import { scopeOfToken } from './scope.js';

export interface NewSession {
  readonly signed: SignedToken;
  readonly refreshToken: string;
}

export interface SessionTokens {
  /** The changes that begin a session, for the commit that decides whether it may. The session is added to the detail of the event. */
  begin(
    holder: Omit<NewFamily, 'audience'> & { readonly roles: readonly string[] },
    event: AuditEvent,
    reads: Reads,
  ): Promise<Decision<NewSession>>;
  /** An access token of a session that has begun, with no more scope than was asked for and the roles give. */
  sign(
    family: Family,
    wanted: { readonly roles: readonly string[]; readonly asked: string | undefined },
    reads: Reads,
  ): Promise<SignedToken>;
}

export interface SessionTokenOptions {
  readonly audit: Audit;
  readonly families: Families;
  readonly tokens: AccessTokens;
  readonly roles: Pick<Roles, 'permissionsOf'>;
  /** The link, as `aud`. */
  readonly audience: string;
}

export function createSessionTokens(options: SessionTokenOptions): SessionTokens {
  const { audit, families, tokens, audience } = options;

  const sign: SessionTokens['sign'] = async (family, { roles, asked }, reads) =>
    tokens.sign({
      subject: family.holder,
      roles,
      ...(await scopeOfToken(options.roles, { tenant: family.tenant, roles, asked }, reads)),
      audience: family.audience,
      client: family.client,
      tenant: family.tenant,
      session: family.id,
      lifetimeMs: accessLifetimeMs,
    });

  return {
    async begin({ roles, ...wanted }, event, reads) {
      const { family, token, changes } = families.begin({ ...wanted, audience });
      const signed = await sign(family, { roles, asked: family.scope }, reads);
      const detail = { session: family.id, ...event.detail };
      return {
        changes: [...changes, audit.auditChange(family.tenant, { ...event, detail })],
        result: { signed, refreshToken: token },
      };
    },
    sign,
  };
}
