/** /auth and /.well-known: tokens in and out, in the words of OAuth 2 (RFC 6749, 7009, 8414). */
import type { FastifyReply } from 'fastify';
import { RollcallError } from '../../../base/errors.js';
import { statusTable } from '../../../protocol/status.js';
import type { Access } from '../../access/access.js';
import { grantErrorOf } from '../../access/login/grant-errors.js';
import { permissionNames } from '../../access/permissions.js';
import type { TokenParameters } from '../../access/login/grants.js';
import type { Administration } from '../../administration.js';
import type { RouteName } from '../access-table.js';
import { sendHeaders } from './problem.js';
import { known, type Exchange, type Route } from './route.js';
import { objectOf, text } from './schemas.js';

type AuthRoute = Extract<
  RouteName,
  `${string} /auth/${string}` | `${string} /.well-known/${string}` | 'POST /token'
>;

export interface AuthRouteOptions {
  readonly access: Access;
  readonly administration: Administration;
}

export function authRoutes({ access, administration }: AuthRouteOptions): Record<AuthRoute, Route> {
  const { account } = access;

  async function grantTokens(exchange: Exchange, parameters: TokenParameters): Promise<object> {
    const { headers, certificate, origin, reply } = exchange;
    const { authorization } = headers;
    const answer = await access.grantTokens({ parameters, authorization, certificate, origin });
    void reply.header('pragma', 'no-cache');
    return {
      access_token: answer.accessToken,
      token_type: 'Bearer',
      expires_in: answer.expiresInSeconds,
      refresh_token: answer.refreshToken,
      scope: answer.scope,
      user: answer.user,
    };
  }

  /** Of the principal that came with a token, or of the service that proves itself otherwise. */
  async function tenantOf(exchange: Exchange, parameters: TokenParameters): Promise<string> {
    const { principal, headers, certificate, origin } = exchange;
    if (principal) return principal.tenant;
    const { authorization } = headers;
    return (await access.recognizeClient({ parameters, authorization, certificate, origin })).tenant;
  }

  return {
    'GET /.well-known/jwks.json': {
      does: 'the public keys that verify tokens (RFC 7517)',
      answer({ reply }) {
        // A key is published an hour before it signs: longer than this, and than verifiers keep what they fetched.
        void reply.header('cache-control', 'public, max-age=300');
        return access.keys.jwks();
      },
    },
    'GET /.well-known/oauth-authorization-server': {
      does: 'what the token endpoint takes (RFC 8414)',
      answer: () => metadataOf(access),
    },
    'GET /.well-known/openid-configuration': {
      does: 'the same, for clients that look here for the keys',
      answer: () => openIdMetadataOf(access),
    },

    // To anybody: a link without an admin has nothing yet that a guesser could learn of.
    'GET /auth/setup': {
      does: 'whether the first admin is still to be made',
      answer: () => ({ open: access.setup.path !== undefined }),
    },
    'POST /auth/setup/code': {
      does: 'checks the setup code, before a password is asked for',
      schema: { body: objectOf({ code: text(100) }) },
      async answer({ body, origin }) {
        await access.checkSetupCode((body as { code: string }).code, origin);
        return {};
      },
    },
    'POST /auth/setup': {
      does: 'makes the first admin with the setup code',
      schema: { body: objectOf({ code: text(100), username: text(63), password: text(256) }) },
      async answer({ body, origin }) {
        const { code, username, password } = body as Record<'code' | 'username' | 'password', string>;
        const { id, name } = await access.setUp(code, username, password, origin);
        return { id, name };
      },
    },

    'POST /auth/token': {
      does: 'tokens for a login, a refresh token or a service (RFC 6749)',
      answer: exchange => grantTokens(exchange, readParameters(exchange.body)),
      sendError: sendGrantError,
    },
    // The same for a service, in the words that other systems ask it with.
    'POST /token': {
      does: 'the same for a service alone, with `sub` and `aud`',
      answer(exchange) {
        const { aud: audience, ...others } = readParameters(exchange.body);
        const client_id = others['client_id'] ?? others['sub'];
        return grantTokens(exchange, { audience, ...others, client_id, grant_type: 'client_credentials' });
      },
      sendError: sendGrantError,
    },

    'POST /auth/revoke': {
      does: 'ends the token in `token` (RFC 7009)',
      async answer({ body, origin }) {
        const { token } = readParameters(body);
        if (token === undefined) throw new RollcallError('REQUEST_INVALID', 'token is needed');
        await access.revokeToken(token, origin);
        return {};
      },
      sendError: sendGrantError,
    },

    'POST /auth/introspect': {
      does: 'whether the token in `token` holds (RFC 7662)',
      async answer(exchange) {
        const parameters = readParameters(exchange.body);
        const { token } = parameters;
        const tenant = await tenantOf(exchange, parameters);
        if (token === undefined) throw new RollcallError('REQUEST_INVALID', 'token is needed');
        return access.introspect(tenant, token);
      },
    },
    'GET /auth/revoked': {
      does: 'the signed list of revoked tokens',
      // No secret is ever taken from an address.
      schema: { querystring: objectOf({}, { client_id: text(100), tenant: text(63) }) },
      async answer(exchange) {
        const list = await access.signRevokedList(await tenantOf(exchange, exchange.query));
        void exchange.reply.type('application/jwt').header('cache-control', 'private, max-age=60');
        return list;
      },
    },

    'GET /auth/me': {
      does: 'who the caller is, and what they may do',
      answer: ({ principal }) => administration.describe(known(principal)),
    },

    'POST /auth/password': {
      does: 'changes the password of the caller',
      schema: { body: objectOf({ old: text(256), new: text(256) }) },
      async answer({ body, principal }) {
        const { old, new: fresh } = body as Record<'old' | 'new', string>;
        await account.changePassword(known(principal), old, fresh);
        return {};
      },
    },
    'POST /auth/second-factor': {
      does: 'proposes a secret for a second factor',
      answer: ({ principal }) => account.proposeSecondFactor(known(principal)),
    },
    'POST /auth/second-factor/confirm': {
      does: 'turns the second factor on; gives recovery codes',
      schema: { body: objectOf({ secret: text(64), code: text(20), password: text(256) }) },
      answer: ({ body, principal }) =>
        account.confirmSecondFactor(known(principal), body as Record<'secret' | 'code' | 'password', string>),
    },
    'POST /auth/second-factor/remove': {
      does: 'turns the second factor off',
      schema: { body: objectOf({ password: text(256) }) },
      async answer({ body, principal }) {
        await account.removeSecondFactor(known(principal), (body as { password: string }).password);
        return {};
      },
    },
  };
}

function readParameters(body: unknown): TokenParameters {
  const isMap = typeof body === 'object' && body !== null && !Array.isArray(body);
  const entries = isMap ? Object.entries(body) : [];
  if (!isMap || entries.some(([, value]) => typeof value !== 'string'))
    throw new RollcallError('REQUEST_INVALID', 'the body must be a form, or a JSON object of strings');
  // Without a prototype, so that no parameter is there by inheritance.
  return Object.assign(Object.create(null) as Record<string, string>, Object.fromEntries(entries));
}

/** RFC 6749 §5.2. */
function sendGrantError(reply: FastifyReply, error: RollcallError): void {
  const name = grantErrorOf(error);
  sendHeaders(reply, error);
  const status = name === 'invalid_grant' || name === 'mfa_required' ? 400 : statusTable[error.code].http;
  void reply
    .code(status)
    .send({ error: name, error_description: error.message, code: error.code, hint: error.hint });
}

/** RFC 8414. */
function metadataOf({ issuer }: Access): object {
  const base = issuer();
  return {
    issuer: base,
    token_endpoint: `${base}/auth/token`,
    revocation_endpoint: `${base}/auth/revoke`,
    introspection_endpoint: `${base}/auth/introspect`,
    jwks_uri: `${base}/.well-known/jwks.json`,
    response_types_supported: [],
    grant_types_supported: ['password', 'refresh_token', 'client_credentials'],
    token_endpoint_auth_methods_supported: [
      'none',
      'client_secret_basic',
      'client_secret_post',
      'private_key_jwt',
      'self_signed_tls_client_auth',
    ],
    token_endpoint_auth_signing_alg_values_supported: ['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA'],
    tls_client_certificate_bound_access_tokens: true,
    scopes_supported: permissionNames,
  };
}

/**
 * The link is no OpenID provider and makes no ID tokens. Clients look for the keys of access tokens under this name
 * (go-oidc, get-jwks, Spring), and learn the algorithms of those from what is meant for ID tokens.
 */
function openIdMetadataOf(access: Access): object {
  return {
    ...metadataOf(access),
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: access.keys.publicAlgorithms(),
  };
}
