/** Why something on the network could not be reached, in words. */
import { RollcallError, systemErrorCode } from './errors.js';

const reasons: Readonly<Partial<Record<string, string>>> = {
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'it closed the connection',
  EPIPE: 'it closed the connection',
  EHOSTUNREACH: 'there is no way to this host',
  ENETUNREACH: 'there is no way to this network',
  ETIMEDOUT: 'no answer',
  EACCES: 'this machine does not let us',
  EPERM: 'this machine does not let us',
  ENOTFOUND: 'there is no such host',
  EAI_AGAIN: 'its name cannot be looked up now',
};

/**
 * LINK_UNREACHABLE for what was named, such as `the link at host:port`; the reason comes from a system error code, in
 * `cause` or in `text`.
 */
export function unreachable(what: string, cause: unknown, text = ''): RollcallError {
  const code = systemErrorCode(cause) ?? /\bE[A-Z_]{3,}\b/.exec(text)?.[0] ?? '';
  const reason = reasons[code] ?? 'the connection failed';
  return new RollcallError('LINK_UNREACHABLE', `cannot reach ${what}: ${reason}`, { cause });
}
