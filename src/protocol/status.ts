/**
 * The one mapping of errors: code → gRPC status, HTTP status. UNAUTHENTICATED means "who are you", PERMISSION_DENIED
 * "you may not". On a gRPC call the code itself is in the trailer `rollcall-code` and the hint in `rollcall-hint`;
 * the public message is the status text. Causes are never sent.
 */
import { Metadata, status as Status } from '@grpc/grpc-js';
import { errorCodes, RollcallError, toRollcallError, type ErrorCode } from '../base/errors.js';

interface Row {
  readonly grpc: Status;
  readonly http: number;
}

const badRequest: Row = { grpc: Status.INVALID_ARGUMENT, http: 400 };
const unavailable: Row = { grpc: Status.UNAVAILABLE, http: 503 };
const internal: Row = { grpc: Status.INTERNAL, http: 500 };
const denied: Row = { grpc: Status.PERMISSION_DENIED, http: 403 };
const unauthenticated: Row = { grpc: Status.UNAUTHENTICATED, http: 401 };
const conflict: Row = { grpc: Status.ALREADY_EXISTS, http: 409 };

export const statusTable: Readonly<Record<ErrorCode, Row>> = {
  CONFIG_INVALID: badRequest,
  FILE_UNREADABLE: internal,
  FILE_UNWRITABLE: internal,
  FILE_PERMISSIONS: internal,
  FILE_EXISTS: internal,
  KEY_UNSUPPORTED: badRequest,
  KEY_PASSPHRASE: badRequest,
  PROTOCOL_INVALID: badRequest,
  PROTOCOL_VERSION: { grpc: Status.FAILED_PRECONDITION, http: 400 },
  PROOF_REFUSED: unauthenticated,
  BINDING_REFUSED: { grpc: Status.FAILED_PRECONDITION, http: 400 },
  NODE_NOT_REGISTERED: denied,
  NODE_PENDING: denied,
  NODE_QUARANTINED: denied,
  NODE_REVOKED: denied,
  CERTIFICATE_REFUSED: unauthenticated,
  SESSION_REPLACED: { grpc: Status.ABORTED, http: 409 },
  SESSION_EXPIRED: unauthenticated,
  SESSION_NO_ANSWER: { grpc: Status.DEADLINE_EXCEEDED, http: 504 },
  LINK_DRAINING: unavailable,
  LINK_BUSY: { grpc: Status.RESOURCE_EXHAUSTED, http: 429 },
  LINK_UNREACHABLE: unavailable,
  LINK_UNVERIFIED: unavailable,
  DEADLINE_EXCEEDED: { grpc: Status.DEADLINE_EXCEEDED, http: 408 },
  REQUEST_INVALID: badRequest,
  TOKEN_REFUSED: unauthenticated,
  LOGIN_REFUSED: unauthenticated,
  OTP_REQUIRED: unauthenticated,
  NOT_ALLOWED: denied,
  RATE_LIMITED: { grpc: Status.RESOURCE_EXHAUSTED, http: 429 },
  PASSWORD_UNFIT: badRequest,
  NAME_TAKEN: conflict,
  NOT_FOUND: { grpc: Status.NOT_FOUND, http: 404 },
  NODE_NOT_FOUND: { grpc: Status.NOT_FOUND, http: 404 },
  NODE_ALREADY_REGISTERED: conflict,
  NODE_NAME_TAKEN: conflict,
  RUN_REFUSED: { grpc: Status.FAILED_PRECONDITION, http: 409 },
  IDEMPOTENCY_KEY_REUSED: { grpc: Status.ALREADY_EXISTS, http: 422 },
  QUEUE_FULL: { grpc: Status.RESOURCE_EXHAUSTED, http: 429 },
  STORE_CONFLICT: { grpc: Status.ABORTED, http: 409 },
  STORE_UNAVAILABLE: unavailable,
  STORE_FULL: { grpc: Status.RESOURCE_EXHAUSTED, http: 507 },
  STORE_LOCKED: unavailable,
  STORE_SCHEMA: internal,
  INTERNAL: internal,
};

const codeTrailer = 'rollcall-code';
const hintTrailer = 'rollcall-hint';
const maxMessageLength = 1024;

export interface GrpcStatus {
  readonly code: Status;
  readonly details: string;
  readonly metadata: Metadata;
}

/** The error as it is sent to a caller. */
export function toGrpcStatus(thrown: unknown): GrpcStatus {
  const error = toRollcallError(thrown);
  const metadata = new Metadata();
  metadata.set(codeTrailer, error.code);
  if (error.hint !== undefined) metadata.set(hintTrailer, printableAscii(error.hint));
  return {
    code: statusTable[error.code].grpc,
    details: wellFormed(error.message.slice(0, maxMessageLength)),
    metadata,
  };
}

/**
 * The error that a peer sent. Without a known code the gRPC status decides alone: UNAVAILABLE is LINK_UNREACHABLE,
 * DEADLINE_EXCEEDED itself, everything else INTERNAL.
 */
export function fromGrpcStatus(status: Partial<GrpcStatus> & { message?: string }): RollcallError {
  if (isTooLarge(status)) {
    // The status is that of a busy peer, but waiting will not help.
    return new RollcallError('PROTOCOL_INVALID', `a message was too large: ${status.details ?? ''}`, {
      cause: status,
    });
  }
  const said = status.metadata?.get(codeTrailer)[0];
  const hint = status.metadata?.get(hintTrailer)[0];
  const code = errorCodes.find(each => each === said) ?? codeOfStatus(status.code);
  return new RollcallError(code, status.details ?? status.message ?? 'no answer', {
    hint: typeof hint === 'string' ? hint : undefined,
    cause: status,
  });
}

function codeOfStatus(code: Status | undefined): ErrorCode {
  if (code === Status.UNAVAILABLE) return 'LINK_UNREACHABLE';
  if (code === Status.DEADLINE_EXCEEDED) return 'DEADLINE_EXCEEDED';
  if (code === Status.RESOURCE_EXHAUSTED) return 'LINK_BUSY';
  return 'INTERNAL';
}

/** Recognised by the text of the gRPC library, at either end. */
function isTooLarge(status: Partial<GrpcStatus>): boolean {
  const { code, details = '' } = status;
  return code === Status.RESOURCE_EXHAUSTED && !hasStatedCode(status) && details.includes('larger than');
}

/** True when the peer itself stated a code, rather than the transport failing. */
export function hasStatedCode(status: Partial<GrpcStatus>): boolean {
  return status.metadata?.get(codeTrailer)[0] !== undefined;
}

/**
 * Half of a surrogate pair, which clipping may leave, has no UTF-8: the gRPC library throws at it outside of any
 * catch.
 */
function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}

function printableAscii(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, maxMessageLength);
}
