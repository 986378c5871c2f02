/**
 * The public keys of an issuer, fetched when they are first needed and then kept: asked for again when they have grown
 * old, so that a key which was withdrawn is forgotten, and when a token names one that is not there, though not more
 * often than the cool-down allows, so that made-up names do not become requests: such a token waits until the issuer may
 * be asked, since a good one may be signed with a key that is newer than what is held. When the issuer is away, what was
 * fetched goes on to serve.
 */
import type { Clock } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import type { TokenAlgorithm } from './algorithms.js';
import type { VerifyingKey } from './check-token.js';
import { parseJwks, type JwksKey } from './jwks.js';

export interface IssuerKeys {
  /**
   * LINK_UNREACHABLE as long as there was never an answer, and for an unknown key while the issuer is away or too many
   * wait for one.
   */
  readonly findKeys: (kid: string, algorithm: TokenAlgorithm) => Promise<readonly VerifyingKey[]>;
}

/** Keys older than this are asked for again, ms. */
export const freshMs = 10 * 60_000;
/** Between two requests, ms; no token waits longer, but for the request itself. */
export const coolDownMs = 5_000;
/** Tokens that wait for an unknown key, at once. */
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

  /** One request for all who wait. */
  function refresh(): Promise<void> {
    if (trying) return trying;
    if (clock.elapsed() - triedAt < coolDownMs) return Promise.resolve();
    trying = load().finally(() => (trying = undefined));
    return trying;
  }

  async function refreshOld(): Promise<void> {
    if (keys && clock.elapsed() - fetchedAt < freshMs) return;
    // An issuer that was away a moment ago is asked beside the request and not before it.
    const isAway = keys !== undefined && failure !== undefined;
    const refreshed = refresh();
    if (!isAway) await refreshed;
  }

  /** Waits until the issuer may be asked again. */
  async function coolDown(): Promise<void> {
    const leftMs = coolDownMs - (clock.elapsed() - triedAt);
    if (trying !== undefined || leftMs <= 0) return;
    if (failure !== undefined || waiting >= maxWaiting) throw noKeys(failure);
    waiting += 1;
    await new Promise<void>(resolve => clock.after(leftMs, resolve));
    waiting -= 1;
  }

  /** Only a request that began after the token came says that there is no such key. */
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
  return new RollcallError('LINK_UNREACHABLE', 'tokens cannot be verified now: their issuer gave no keys', {
    hint: 'try again in a moment',
    cause,
    retryAfterMs: coolDownMs,
  });
}
