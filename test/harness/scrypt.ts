/** The real scrypt of Node.js, watched: each call is told of, and may be held. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

export interface ScryptCost {
  readonly N?: number | undefined;
  readonly r?: number | undefined;
  readonly p?: number | undefined;
}

export interface ScryptWatch {
  /** The work begins when it resolves. */
  readonly started: (cost: ScryptCost) => void | Promise<void>;
  readonly ended?: () => void;
}

/** Watches while the work goes on, in the whole process. */
export async function watchScrypt<T>({ started, ended }: ScryptWatch, work: () => Promise<T>): Promise<T> {
  const real = crypto.scrypt;
  crypto.scrypt = ((...[password, salt, length, options, done]: Required<Parameters<typeof real>>) => {
    const { N, r, p } = options;
    const begin = (): void =>
      real(password, salt, length, options, (...result) => {
        ended?.();
        done(...result);
      });
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
