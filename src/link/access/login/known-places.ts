/**
 * From which networks each account came in lately: there, what strangers do counts less. Only hashes are kept, in memory
 * and in the store, so that a restart in the middle of an attack does not make a stranger of everybody.
 *
 * Nothing is decided by it but how long somebody waits, so that a record that could not be written costs nobody more.
 */
import { sha256Base64url } from '../../../base/hash.js';
import type { Clock } from '../../../base/clock.js';
import type { Log } from '../../../base/log.js';
import type { Key, Store } from '../../../store/store.js';
import { createBoundedMap, type BoundedMap } from '../bounded-map.js';
import { decodeRecord, putRecord } from '../records.js';

const prefix: Key = 'access/known/';
const maxAccounts = 10_000;
/** Of each account. */
const maxNetworks = 16;
const knownForMs = 30 * 86_400_000;
/** One that is written anew after so long: not every login needs to write. */
const renewAfterMs = 86_400_000;

interface KnownRecord {
  /** When the account last came in, by the hash of the network. */
  readonly networks: Readonly<Record<string, number>>;
}

export interface KnownPlacesOptions {
  readonly store: Store;
  readonly clock: Pick<Clock, 'now'>;
  readonly log: Pick<Log, 'warn'>;
}

export async function openKnownPlaces(options: KnownPlacesOptions): Promise<KnownPlaces> {
  const known = new KnownPlaces(options);
  await known.load();
  return known;
}

/** `account` is a text that names one for good, a hash of base64url letters; `network` is that of an address. */
export class KnownPlaces {
  readonly #store: Store;
  readonly #clock: KnownPlacesOptions['clock'];
  readonly #log: KnownPlacesOptions['log'];
  readonly #accounts = createBoundedMap<BoundedMap<number>>(maxAccounts);
  #writing: Promise<void> = Promise.resolve();

  constructor({ store, clock, log }: KnownPlacesOptions) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  async load(): Promise<void> {
    for (const { key, value } of await this.#store.list({ prefix, limit: maxAccounts })) {
      const { networks } = decodeRecord<KnownRecord>(value);
      const places = createBoundedMap<number>(maxNetworks);
      for (const [network, at] of Object.entries(networks)) places.set(network, at);
      this.#accounts.set(key.slice(prefix.length), places);
    }
  }

  has(account: string, network: string): boolean {
    const at = this.#accounts.get(account)?.get(hashOf(account, network));
    return at !== undefined && this.#clock.now() - at < knownForMs;
  }

  /** The account has just come in from there. */
  remember(account: string, network: string): void {
    const places = this.#accounts.get(account) ?? createBoundedMap<number>(maxNetworks);
    const now = this.#clock.now();
    const hash = hashOf(account, network);
    const at = places.get(hash);
    if (at !== undefined && Math.abs(now - at) < renewAfterMs) return;
    places.set(hash, now);
    this.#accounts.set(account, places);
    const record: KnownRecord = { networks: Object.fromEntries(places.entries()) };
    this.#writing = this.#store.commit([putRecord(prefix + account, record)]).catch((error: unknown) => {
      this.#log.warn({ err: error }, 'could not store where an account came in from');
    });
  }

  /** Waits for what is being written. */
  close(): Promise<void> {
    return this.#writing;
  }
}

/** Bound to the account, so that the same network of two accounts does not look the same. */
function hashOf(account: string, network: string): string {
  return sha256Base64url(`${account} ${network}`).slice(0, 22);
}
