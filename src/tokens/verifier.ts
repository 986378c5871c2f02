/**
 * For programs that accept tokens of a link: one line verifies them. The link is asked for its public keys only.
 *
 * ```ts
 * const verifier = createTokenVerifier({ issuer: 'https://link.example.org:9093', audience: 'logging-service' });
 * fastify.addHook('onRequest', verifier.fastify());          // request.principal, or 401
 * express.use(verifier.express());                           // request.principal, or 401
 * new Server({ interceptors: [verifier.grpc()] });           // verifier.claimsOf(call), or UNAUTHENTICATED
 * ```
 *
 * The guard or the handler checks a caller with `requirePermission`, `requireRole` and `requireOwner` (require.ts). A
 * token that the link has revoked is refused once a list with it was given to `takeRevoked`; without lists it is valid
 * until its end.
 */
import type { ServerInterceptor } from '@grpc/grpc-js';
import { systemClock, type Clock } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import { isTokenAlgorithm, minSecretBytes, type TokenAlgorithm } from './algorithms.js';
import { checkSigned, checkToken, type TokenCheck } from './check-token.js';
import type { TokenClaims } from './claims.js';
import { fetchDocument } from './fetch-document.js';
import { grpcGuard, type ClaimsByMetadata, type GrpcGuardOptions } from './grpc-guard.js';
import {
  expressGuard,
  fastifyGuard,
  type ExpressGuard,
  type FastifyGuard,
  type GuardOptions,
} from './http-guard.js';
import { createIssuerKeys } from './issuer-keys.js';
import { tokenRefused, tokenRevoked } from './refusals.js';
import {
  expectRevokedList,
  isRevokedBy,
  maxRevokedListBytes,
  readRevokedList,
  revokedListType,
  type RevokedList,
} from './revoked-list.js';
import { decodeBase64url } from './strict-json.js';
import { isHolder } from './thumbprint.js';

export type { TokenAlgorithm } from './algorithms.js';
export type { TokenClaims } from './claims.js';
export type {
  ExpressGuard,
  FastifyGuard,
  GuardOptions,
  WithOptionalPrincipal,
  WithPrincipal,
} from './http-guard.js';
export { toGrpcStatus, type GrpcGuardOptions } from './grpc-guard.js';
export { requireOwner, requirePermission, requireRole, type Caller } from './require.js';
export type { RevokedList } from './revoked-list.js';
export { RollcallError } from '../base/errors.js';

/**
 * The secret from the operator of the link: base64url of 32 bytes or more. Without a kid it is tried for every token.
 */
export interface SharedSecret {
  readonly kid?: string | undefined;
  readonly secret: string;
}

export interface VerifierOptions {
  /** Exactly `iss`; the keys are at `/.well-known/jwks.json` below it, over HTTPS. */
  readonly issuer: string;
  /** `aud`: the name of this program. */
  readonly audience: string;
  /** All algorithms with public keys by default; with secrets HS256 alone. */
  readonly algorithms?: readonly TokenAlgorithm[];
  /** PEM of the roots of the link's server certificate; the system's own by default. */
  readonly rootCertificates?: string | Buffer;
  /** For an audience with HS256, instead of public keys. Several during a rotation. */
  readonly secrets?: string | readonly SharedSecret[];
  /** 30 seconds by default, ms. */
  readonly clockToleranceMs?: number;
  readonly clock?: Clock;
}

export interface TokenVerifier {
  /**
   * TOKEN_REFUSED for an invalid token; LINK_UNREACHABLE when the link is away and the key is unknown. A token with
   * an unknown key waits for up to five seconds. A certificate-bound token is refused without that certificate (DER).
   */
  readonly verify: (token: string, certificate?: Buffer) => Promise<TokenClaims>;
  /**
   * Takes the answer of `GET /auth/revoked` of the link: from then on tokens that it names are refused, until a newer
   * list of the tenant is taken. Returns the list, with the time to fetch the next. TOKEN_REFUSED for an invalid
   * list.
   */
  readonly takeRevoked: (list: string) => Promise<RevokedList>;
  /** A hook: `fastify.addHook('onRequest', verifier.fastify())`, or the `onRequest` of a route. */
  fastify(options?: GuardOptions): FastifyGuard;
  /** Middleware for express and programs with the same interface. */
  express(options?: GuardOptions): ExpressGuard;
  /** An interceptor for a server of @grpc/grpc-js. */
  grpc(options?: GrpcGuardOptions): ServerInterceptor;
  /** In a gRPC handler: the claims of the call; undefined for a public method, and without a token. */
  claimsOf(call: { readonly metadata: object }): TokenClaims | undefined;
}

/** CONFIG_INVALID for invalid or unsafe options. */
export function createTokenVerifier(options: VerifierOptions): TokenVerifier {
  const check = toCheck(options);
  const claimsByMetadata: ClaimsByMetadata = new WeakMap();
  /** The newest list of each tenant. */
  const revoked = new Map<string, RevokedList>();

  async function verify(token: string, certificate?: Buffer): Promise<TokenClaims> {
    const claims = await checkToken(token, check);
    if (!isHolder(claims, certificate))
      throw tokenRefused('the certificate it is bound to was not presented');
    const list = revoked.get(claims.tenant);
    if (list && isRevokedBy(list, claims)) throw tokenRevoked();
    return claims;
  }

  async function takeRevoked(text: string): Promise<RevokedList> {
    const form = { type: revokedListType, maxBytes: maxRevokedListBytes };
    const list = readRevokedList((await checkSigned(text, check, form)).payload);
    expectRevokedList(list, { ...check, now: check.now() });
    // A cache on the way may return an older list.
    if (list.issuedAt >= (revoked.get(list.tenant)?.issuedAt ?? 0)) revoked.set(list.tenant, list);
    return list;
  }

  return {
    verify,
    takeRevoked,
    fastify: (guardOptions = {}) => fastifyGuard(verify, guardOptions),
    express: (guardOptions = {}) => expressGuard(verify, guardOptions),
    grpc: (grpcOptions = {}) => grpcGuard(verify, claimsByMetadata, grpcOptions),
    claimsOf: ({ metadata }) => claimsByMetadata.get(metadata),
  };
}

const fetchWithinMs = 5_000;
const maxJwksBytes = 256 * 1024;

function toCheck(options: VerifierOptions): TokenCheck {
  const { issuer, audience, secrets, clock = systemClock, clockToleranceMs = 30_000 } = options;
  if (audience === '') throw invalidOptions('the audience must not be empty');
  const algorithms = options.algorithms ?? (secrets === undefined ? ['ES256', 'RS256'] : ['HS256']);
  const fits = algorithms.every(
    each => isTokenAlgorithm(each) && (each === 'HS256') === (secrets !== undefined),
  );
  if (algorithms.length === 0 || !fits)
    throw invalidOptions('HS256 needs secrets; ES256 and RS256 must have none');
  const findKeys = secrets === undefined ? keysOfIssuer(options, clock) : keysOfSecrets(secrets);
  return { issuer, audience, algorithms, findKeys, now: () => clock.now(), toleranceMs: clockToleranceMs };
}

function keysOfIssuer({ issuer, rootCertificates }: VerifierOptions, clock: Clock): TokenCheck['findKeys'] {
  const url = jwksUrl(issuer);
  const fetch = () =>
    fetchDocument({ url, rootCertificates, timeoutMs: fetchWithinMs, maxBytes: maxJwksBytes, clock });
  return createIssuerKeys({ fetch, clock }).findKeys;
}

function jwksUrl(issuer: string): URL {
  const url = URL.canParse(issuer) ? new URL(issuer) : undefined;
  if (url?.protocol !== 'https:' || url.username !== '' || url.search !== '' || url.hash !== '')
    throw invalidOptions('the issuer must be an https:// URL');
  return new URL(`${issuer.replace(/\/+$/, '')}/.well-known/jwks.json`);
}

function keysOfSecrets(secrets: string | readonly SharedSecret[]): TokenCheck['findKeys'] {
  const list: readonly SharedSecret[] = typeof secrets === 'string' ? [{ secret: secrets }] : secrets;
  // An empty list would refuse everything, and be found out late.
  if (list.length === 0) throw invalidOptions('secrets must not be empty');
  const keys = list.map(({ kid, secret }) => ({ kid, key: readSecret(secret) }));
  return kid => keys.filter(each => each.kid === undefined || each.kid === kid).map(({ key }) => key);
}

function readSecret(text: string): Buffer {
  const secret = decodeBase64url(text);
  if (secret && secret.length >= minSecretBytes) return secret;
  throw invalidOptions('a secret must be base64url of at least 32 bytes');
}

function invalidOptions(what: string): RollcallError {
  return new RollcallError('CONFIG_INVALID', `invalid options of the token verifier: ${what}`);
}
