/**
 * The verifier for the methods of another program's gRPC server: reads `authorization` from the metadata and keeps
 * the claims for the handler, or ends the call with UNAUTHENTICATED or PERMISSION_DENIED before the handler runs.
 */
import { createRequire } from 'node:module';
import type * as Grpc from '@grpc/grpc-js';
import { RollcallError } from '../base/errors.js';
import { getBearer } from './bearer.js';
import type { TokenClaims } from './claims.js';
import type { VerifyBearer } from './http-guard.js';
import { tokenMissing } from './refusals.js';

export interface GrpcGuardOptions {
  /**
   * Exact paths of methods without authentication, such as `/grpc.health.v1.Health/Check`. Their tokens are ignored.
   */
  readonly public?: readonly string[];
  /** Paths of methods that need no token, but get the caller of a valid one and refuse an invalid one. */
  readonly optional?: readonly string[];
  /** Checks the caller of a method that is not public, with requirePermission and the like: its error is the answer. */
  readonly require?: (caller: TokenClaims | undefined, path: string) => unknown;
}

/** The claims of each call, by its metadata: the handler gets the same object. */
export type ClaimsByMetadata = WeakMap<object, TokenClaims>;

export function grpcGuard(
  verify: VerifyBearer,
  claimsByMetadata: ClaimsByMetadata,
  { public: publicPaths = [], optional = [], require }: GrpcGuardOptions,
): Grpc.ServerInterceptor {
  const { ServerInterceptingCall } = loadGrpc();

  async function callerOf(
    metadata: Grpc.Metadata,
    call: Grpc.ServerInterceptingCallInterface,
    path: string,
  ): Promise<TokenClaims | undefined> {
    const [authorization, ...others] = metadata.get('authorization');
    if (authorization === undefined && optional.includes(path)) return undefined;
    if (typeof authorization !== 'string' || others.length > 0) throw tokenMissing();
    return verify(getBearer(authorization), call.getAuthContext().sslPeerCertificate?.raw);
  }

  async function admit(
    metadata: Grpc.Metadata,
    call: Grpc.ServerInterceptingCallInterface,
    path: string,
  ): Promise<void> {
    const caller = await callerOf(metadata, call, path);
    if (caller) claimsByMetadata.set(metadata, caller);
    await require?.(caller, path);
  }

  return (method, call) =>
    new ServerInterceptingCall(call, {
      start: next =>
        next({
          onReceiveMetadata(metadata, goOn) {
            if (publicPaths.includes(method.path)) goOn(metadata);
            else
              admit(metadata, call, method.path).then(
                () => goOn(metadata),
                (error: unknown) => call.sendStatus(toGrpcStatus(error)),
              );
          },
        }),
    });
}

/** The status for an error of `require…` that a handler caught: `callback(toGrpcStatus(error))`. */
export function toGrpcStatus(error: unknown): { code: Grpc.status; details: string } {
  const { status } = loadGrpc();
  const codes: Readonly<Partial<Record<string, Grpc.status>>> = {
    TOKEN_REFUSED: status.UNAUTHENTICATED,
    NOT_ALLOWED: status.PERMISSION_DENIED,
    LINK_UNREACHABLE: status.UNAVAILABLE,
  };
  const code = error instanceof RollcallError ? codes[error.code] : undefined;
  return error instanceof RollcallError && code !== undefined
    ? { code, details: error.message }
    : { code: status.INTERNAL, details: 'something went wrong on this side' };
}

/** Loaded on demand: programs without gRPC need not have it. */
function loadGrpc(): typeof Grpc {
  return createRequire(import.meta.url)('@grpc/grpc-js') as typeof Grpc;
}
