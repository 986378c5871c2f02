/** Randomness as an argument: secrets, nonces and ids draw from the system, tests may bring their own. */
import { randomBytes } from 'node:crypto';

/** Gives `size` random bytes. */
export type Random = (size: number) => Buffer;

export const systemRandom: Random = size => randomBytes(size);
