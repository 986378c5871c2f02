/**
 * Whether a token holds now, for those who verify the tokens of others (RFC 7662): what is in it while it does, and
 * nothing but `active: false` for everything else, also for a token of another tenant.
 */
import { decodeJwt } from 'jose';
import { isRollcallError } from '../../../base/errors.js';
import { maxTokenBytes } from '../../../tokens/check-token.js';
import { encodeClaims } from '../../../tokens/claims.js';
import type { AccessTokens, TokenClaims } from './access-tokens.js';
import type { FindPrincipal } from '../authenticate.js';
import type { Principal } from '../principal.js';

export type Introspection =
  { readonly active: false } | (Readonly<Record<string, unknown>> & { readonly active: true });

/** Of a token that somebody of this tenant was shown. */
export type Introspect = (tenant: string, token: string) => Promise<Introspection>;

export interface IntrospectOptions {
  readonly tokens: AccessTokens;
  readonly findPrincipal: FindPrincipal;
  /** The link, as `aud`. */
  readonly audience: string;
}

export function createIntrospect({ tokens, findPrincipal, audience }: IntrospectOptions): Introspect {
  async function readClaims(token: string): Promise<TokenClaims | undefined> {
    const said = audienceOf(token);
    if (said === undefined) return undefined;
    return tokens.verify(token, said).catch((error: unknown) => {
      if (isRollcallError(error, 'TOKEN_REFUSED')) return undefined;
      throw error;
    });
  }

  /** At the link a token allows what its holder may do now, elsewhere what it says. */
  const scopeOf = (claims: TokenClaims, { permissions }: Principal): string | undefined =>
    claims.audience === audience ? [...permissions].sort().join(' ') : claims.scope;

  return async (tenant, token) => {
    const claims = await readClaims(token);
    const principal = claims?.tenant === tenant ? await findPrincipal(claims) : undefined;
    if (!claims || !principal) return { active: false };
    const said = JSON.parse(encodeClaims(claims).toString()) as Readonly<Record<string, unknown>>;
    const { name: username } = principal;
    return { active: true, token_type: 'Bearer', ...said, scope: scopeOf(claims, principal), username };
  };
}

/** Which key must have signed it; nothing of it is believed before that has been looked at. */
function audienceOf(token: string): string | undefined {
  try {
    const { aud } = token.length > maxTokenBytes ? {} : decodeJwt(token);
    return typeof aud === 'string' ? aud : undefined;
  } catch {
    return undefined;
  }
}
