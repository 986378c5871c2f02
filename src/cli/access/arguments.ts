/** Reads the arguments of the commands about access. Pure; mistakes are REQUEST_INVALID, exit code 2. */
import { as } from '../../base/settings.js';
import { usageError } from '../failure.js';

const tenYearsMs = 3_660 * 86_400_000;

/** `90s`, `15m`, `30d` in milliseconds; how long is long enough is for the link to say. */
export function parseDuration(flag: string, text: string): number {
  try {
    return as.duration(1_000, tenYearsMs)(text);
  } catch {
    throw usageError(`${flag}: expected a duration, found "${text}"`, 'such as 90s, 15m, 12h or 30d');
  }
}

/** The values of a flag that was given more than once; an empty one stands for none, to take all away. */
export function parseList(values: readonly string[]): string[] {
  return values.filter(value => value !== '');
}

export interface EnableFlags {
  readonly enable?: boolean;
  readonly disable?: boolean;
}

/** Nothing when neither was given. */
export function parseEnabled({ enable, disable }: EnableFlags): { readonly enabled?: boolean } {
  if (enable && disable) throw usageError('--enable and --disable cannot be given together');
  return enable || disable ? { enabled: enable === true } : {};
}

/** Gives the change back, or says that there is none. */
export function requireChange<T extends object>(change: T): T {
  if (Object.keys(change).length > 0) return change;
  throw usageError('nothing was said that is to change', 'give at least one flag; --help shows them');
}
