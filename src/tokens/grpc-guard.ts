/**
 * The verifier before the methods of another program's gRPC server: reads `authorization` from the metadata, remembers
 * the claims for the handler, or ends the call with UNAUTHENTICATED before the handler hears of it.
 */
import { createRequire } from 'node:module';
import type * as Grpc from '@grpc/grpc-js';
import { RollcallError } from '../base/errors.js';
import { getBearer } from './bearer.js';
import type { TokenClaims } from './claims.js';
import type { VerifyBearer } from './http-guard.js';
import { tokenMissing } from './refusals.js';

export interface GrpcGuardOptions {
  /** Paths of methods that need no token, exactly, such as `/grpc.health.v1.Health/Check`. */
  readonly public?: readonly string[];
}

/** The claims of each call, by its metadata: the handler is given the very same object. */
export type ClaimsByMetadata = WeakMap<object, TokenClaims>;

export function grpcGuard(
  verify: VerifyBearer,
  claimsByMetadata: ClaimsByMetadata,
  { public: publicPaths = [] }: GrpcGuardOptions,
): Grpc.ServerInterceptor {
  // Loaded here: programs without gRPC need not wait for it.
  const { ServerInterceptingCall, status } = createRequire(import.meta.url)('@grpc/grpc-js') as typeof Grpc;

  async function admit(metadata: Grpc.Metadata, call: Grpc.ServerInterceptingCallInterface): Promise<void> {
    const [authorization, ...others] = metadata.get('authorization');
    if (typeof authorization !== 'string' || others.length > 0) throw tokenMissing();
    const certificate = call.getAuthContext().sslPeerCertificate?.raw;
    claimsByMetadata.set(metadata, await verify(getBearer(authorization), certificate));
  }

  function statusOf(error: unknown): { code: Grpc.status; details: string } {
    if (!(error instanceof RollcallError))
      return { code: status.INTERNAL, details: 'something went wrong on this side' };
    const code = error.code === 'TOKEN_REFUSED' ? status.UNAUTHENTICATED : status.UNAVAILABLE;
    return { code, details: error.message };
  }

  return (method, call) =>
    new ServerInterceptingCall(call, {
      start: next =>
        next({
          onReceiveMetadata(metadata, goOn) {
            if (publicPaths.includes(method.path)) goOn(metadata);
            else
              admit(metadata, call).then(
                () => goOn(metadata),
                (error: unknown) => call.sendStatus(statusOf(error)),
              );
          },
        }),
    });
}
