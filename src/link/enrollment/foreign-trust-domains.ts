/**
 * Agents that say they belong to another trust domain. They refuse this link for as long as they keep their state, which
 * is what the operator of a link sees whose data was lost, once the keys are registered again; the log says what helps.
 * Nothing is proved when this is heard, so nothing is decided by it, and it has a bounded share of the log. Strangers may
 * use up that share: an agent says the same in its own log.
 */
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';

export interface ForeignTrustDomainsOptions {
  /** Of this link. */
  readonly trustDomain: string;
  readonly clock: Pick<Clock, 'elapsed'>;
  readonly log: Pick<Log, 'warn'>;
}

/** Told in an hour, each once. */
export const maxForeignTrustDomains = 8;
const hourMs = 3_600_000;

export class ForeignTrustDomains {
  readonly #options: ForeignTrustDomainsOptions;
  readonly #toldAt = new Map<string, number>();

  constructor(options: ForeignTrustDomainsOptions) {
    this.#options = options;
  }

  /** `claimed` has the form of a trust domain, so that it may stand in the log as it is. */
  heard(claimed: string, remoteAddress: string): void {
    const { trustDomain, clock, log } = this.#options;
    if (claimed === trustDomain) return;
    const now = clock.elapsed();
    for (const [domain, at] of this.#toldAt) if (now - at >= hourMs) this.#toldAt.delete(domain);
    if (this.#toldAt.has(claimed) || this.#toldAt.size >= maxForeignTrustDomains) return;
    this.#toldAt.set(claimed, now);
    const hint = `if this link replaces one whose data was lost, start it on an empty --data-dir with --trust-domain ${claimed} and register its keys again`;
    log.warn(
      { remoteAddress, hint },
      `an agent says that it belongs to trust domain ${claimed}; this link is of ${trustDomain}`,
    );
  }
}
