/** The token that every question carries: where it comes from, and what happens when the link refuses it. */
import { isRollcallError, RollcallError } from '../base/errors.js';
import { StatedByLink } from './diagnosis.js';

export interface TokenSource {
  /** The token of now. With `refused`, which the link has just refused: another one, or the same where there is none. */
  readonly get: (refused?: string) => string | Promise<string>;
  /** The hint when there is no other token. */
  readonly refusedHint: string;
}

/** Asks with the token of now; when the link refuses that and there is another, once more with the other. */
export async function withToken<T>(source: TokenSource, ask: (token: string) => T | Promise<T>): Promise<T> {
  const token = await source.get();
  try {
    return await ask(token);
  } catch (error) {
    if (!isRollcallError(error, 'TOKEN_REFUSED')) throw error;
    const another = await source.get(token);
    if (another === token) throw refusalOf(error, source);
    return askLast(source, ask, another);
  }
}

async function askLast<T>(
  source: TokenSource,
  ask: (token: string) => T | Promise<T>,
  token: string,
): Promise<T> {
  try {
    return await ask(token);
  } catch (error) {
    throw isRollcallError(error, 'TOKEN_REFUSED') ? refusalOf(error, source) : error;
  }
}

/** The link's refusal, with what to do about this token. */
export function refusalOf(error: RollcallError, { refusedHint }: TokenSource): RollcallError {
  return new StatedByLink(error, refusedHint);
}

/** The token alone, which must be one that can travel in a header. The message never quotes what was found. */
export function parseToken(token: string, where: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new RollcallError('CONFIG_INVALID', `${where} does not hold a token`, {
    hint: 'give the token alone, on one line',
  });
}
