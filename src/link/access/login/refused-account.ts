/**
 * The account that a refusal is about, for the audit log alone: the caller is told the same whether the account exists or
 * not. Only accounts that were found are noted, so that nobody writes a name of their own into the log.
 */
import type { RollcallError } from '../../../base/errors.js';
import type { Known } from '../../audit/refusals.js';

const accounts = new WeakMap<RollcallError, Known>();

/** Gives the error back. */
export function ofAccount(error: RollcallError, account: Known | undefined): RollcallError {
  if (account) accounts.set(error, account);
  return error;
}

export function accountIn(error: unknown): Known | undefined {
  return accounts.get(error as RollcallError);
}
