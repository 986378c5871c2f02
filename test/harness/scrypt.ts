/** The real scrypt of Node.js, observed: each call is reported, and may be held. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

export interface ScryptCost {
  readonly N?: number | undefined;
  readonly r?: number | undefined;
  readonly p?: number | undefined;
}

/** While the work goes on, in the whole process; each scrypt begins when what `started` gives for it resolves. */
export async function watchScrypt<T>(
  started: (cost: ScryptCost) => void | Promise<void>,
  work: () => Promise<T>,
): Promise<T> {
  const real = crypto.scrypt;
  crypto.scrypt = ((...[password, salt, length, options, done]: Required<Parameters<typeof real>>) => {
    const { N, r, p } = options;
    const begin = (): void => real(password, salt, length, options, done);
    const held = started({ N, r, p });
    if (held) void held.then(begin);
    else begin();
  }) as typeof real;
  syncBuiltinESMExports();
  try {
    return await work();
  } finally {
    crypto.scrypt = real;
    syncBuiltinESMExports();
  }
}
