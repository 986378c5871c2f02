/**
 * The public keys of an issuer, fetched on first use and cached. They are fetched again when they are old, so that a
 * withdrawn key is forgotten, and when a token names an unknown key, at most once in each cool-down, so that made-up
 * names do not become requests: such a token waits for the next request, since its key may be newer than the cached
 * keys. While the issuer is away, the cached keys remain valid.
 */
import type { Clock } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import type { TokenAlgorithm } from './algorithms.js';
import type { VerifyingKey } from './check-token.js';
import { parseJwks, type JwksKey } from './jwks.js';

export interface IssuerKeys {
  /**
   * LINK_UNREACHABLE until the first answer of the issuer, and for an unknown key while the issuer is away or too
   * many tokens wait.
   */
  readonly findKeys: (kid: string, algorithm: TokenAlgorithm) => Promise<readonly VerifyingKey[]>;
}

/** Keys older than this are fetched again, ms. */
export const freshMs = 10 * 60_000;
/** Minimum time between two requests, ms; a token waits no longer than this and one request. */
export const coolDownMs = 5_000;
/** Maximum number of tokens that wait for an unknown key. */
export const maxWaiting = 1_000;

export interface IssuerKeysOptions {
  readonly fetch: () => Promise<Buffer>;
  readonly clock: Clock;
}

export function createIssuerKeys({ fetch, clock }: IssuerKeysOptions): IssuerKeys {
  let keys: ReadonlyMap<string, JwksKey> | undefined;
  let fetchedAt = 0;
  let triedAt = -Infinity;
  let failure: unknown;
  let trying: Promise<void> | undefined;
  let waiting = 0;
  let requests = 0;

  async function load(): Promise<void> {
    requests += 1;
    triedAt = clock.elapsed();
    try {
      keys = parseJwks(await fetch());
      fetchedAt = clock.elapsed();
      failure = undefined;
    } catch (error) {
      failure = error;
    }
  }

  /** One request for all waiting tokens. */
  function refresh(): Promise<void> {
    if (trying) return trying;
    if (clock.elapsed() - triedAt < coolDownMs) return Promise.resolve();
    trying = load().finally(() => (trying = undefined));
    return trying;
  }

  async function refreshOld(): Promise<void> {
    if (keys && clock.elapsed() - fetchedAt < freshMs) return;
    // A token does not wait for an issuer whose last request failed: the request runs beside it.
    const isAway = keys !== undefined && failure !== undefined;
    const refreshed = refresh();
    if (!isAway) await refreshed;
  }

  /** Waits until the next request to the issuer is allowed. */
  async function coolDown(): Promise<void> {
    const leftMs = coolDownMs - (clock.elapsed() - triedAt);
    if (trying !== undefined || leftMs <= 0) return;
    if (failure !== undefined || waiting >= maxWaiting) throw noKeys(failure);
    waiting += 1;
    await new Promise<void>(resolve => clock.after(leftMs, resolve));
    waiting -= 1;
  }

  /** Only a request that began after the token came proves that the key does not exist. */
  async function refreshFor(kid: string, requestsBefore: number): Promise<void> {
    while (!keys?.has(kid) && requests === requestsBefore) {
      await coolDown();
      await refresh();
    }
  }

  return {
    async findKeys(kid, algorithm) {
      const requestsBefore = requests;
      await refreshOld();
      await refreshFor(kid, requestsBefore);
      if (!keys || (failure !== undefined && !keys.has(kid))) throw noKeys(failure);
      const found = keys.get(kid);
      return found?.algorithm === algorithm ? [found.key] : [];
    },
  };
}

function noKeys(cause: unknown): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', 'tokens cannot be verified now: no keys from the issuer', {
    hint: 'try again in a moment',
    cause,
    retryAfterMs: coolDownMs,
  });
}
