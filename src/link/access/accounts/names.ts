/** Names that people give to users, services, roles and tenants: short, plain, and safe to show anywhere. */
import { RollcallError } from '../../../base/errors.js';

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}$/;

/** Gives the name back, or throws REQUEST_INVALID. `what` is "user name". */
export function parseAccessName(name: string, what: string): string {
  if (isAccessName(name)) return name;
  throw new RollcallError('REQUEST_INVALID', `that is no ${what}`, {
    hint: 'letters, digits and . _ @ + -, at most 63, the first a letter or digit',
  });
}

/** Names that `by` of an audit event, or a reader of the log, does not take for an account. In lower case. */
const reservedNames: readonly string[] = [
  ...['link', 'system', 'rollcall', 'root', 'setup', 'holder', 'anonymous', 'unknown', 'nobody', 'everyone'],
  ...['user', 'service', 'node'],
];

/** As `parseAccessName`, for a new user, service or tenant: the name must not mean something else in the audit log. */
export function parseNewName(name: string, what: string): string {
  parseAccessName(name, what);
  if (!reservedNames.includes(name.toLowerCase())) return name;
  throw new RollcallError('REQUEST_INVALID', `${name} is a reserved name`, { hint: 'choose another name' });
}

/** Anything else names nothing, and need not be looked for. */
export function isAccessName(text: string): boolean {
  return namePattern.test(text);
}

/** In one request, or of one account: more are a mistake, or meant to cost. */
const maxNames = 100;

/** Throws REQUEST_INVALID for a list of names that is too long. `what` is "roles". */
export function requireFew(names: readonly string[], what: string): void {
  if (names.length <= maxNames) return;
  throw new RollcallError('REQUEST_INVALID', `at most ${maxNames} ${what} at a time`);
}

export function nameTaken(what: string, name: string): RollcallError {
  return new RollcallError('NAME_TAKEN', `there is a ${what} named ${name} already`);
}

export function notFound(what: string): RollcallError {
  return new RollcallError('NOT_FOUND', `there is no such ${what}`);
}
