/** Errors of the token endpoint by the names of RFC 6749 §5.2 and RFC 8707. */
import { RollcallError, type ErrorCode, type ErrorExtras } from '../../../base/errors.js';

const codes = {
  invalid_request: 'REQUEST_INVALID',
  invalid_client: 'LOGIN_REFUSED',
  invalid_grant: 'LOGIN_REFUSED',
  unauthorized_client: 'NOT_ALLOWED',
  unsupported_grant_type: 'REQUEST_INVALID',
  invalid_scope: 'REQUEST_INVALID',
  invalid_target: 'REQUEST_INVALID',
} as const satisfies Readonly<Record<string, ErrorCode>>;

export type GrantErrorName = keyof typeof codes;

const names = new WeakMap<RollcallError, GrantErrorName>();

export function grantRefused(name: GrantErrorName, message: string, extras: ErrorExtras = {}): RollcallError {
  const error = new RollcallError(codes[name], message, extras);
  names.set(error, name);
  return error;
}

/** Returns the `error` value of the token endpoint for an error. */
export function grantErrorOf(error: RollcallError): string {
  const named = names.get(error);
  if (named) return named;
  if (error.code === 'OTP_REQUIRED') return 'mfa_required';
  if (error.code === 'LOGIN_REFUSED' || error.code === 'TOKEN_REFUSED') return 'invalid_grant';
  if (error.code === 'RATE_LIMITED') return 'slow_down';
  return error.code === 'REQUEST_INVALID' ? 'invalid_request' : 'server_error';
}
