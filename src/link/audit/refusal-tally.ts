/**
 * Counts refusals of one kind within bounds that nobody outside can move: so many counts are held, so few are told apart,
 * and the rest is told together. What is told together loses first the network it came from, then whom it is about.
 */
import { anonymousParty, type Party } from '../../audit-log/party.js';

/** The log that a refusal is written to, and its reason. */
export interface Refused {
  readonly tenant: string;
  readonly type: 'peer.refused' | 'login.refused' | 'request.refused';
  readonly by: Party;
  readonly subject: string;
  /** The name of the account that somebody tried to come in as, where there is one. */
  readonly account?: string | undefined;
  /** The network; undefined for several. */
  readonly network: string | undefined;
}

export interface Counted {
  readonly refused: Refused;
  /** How often, by error code or permission. */
  readonly reasons: ReadonlyMap<string, number>;
}

/** The name of several together. */
export const others = 'others';

/** Counts held until they are told, of each degree of detail. */
const maxHeld = 1024;
/** Told apart in the log of a tenant: of those that name a network, and again of those that name somebody. */
const maxTold = 16;
const maxReasons = 32;

type Counts = Map<string, Count>;

export class RefusalTally {
  /** By how much detail they have, so that many networks leave room for those who are told without one. */
  #counts = emptyCounts();

  /** True for the first of its kind since the last `take`. */
  add(refused: Refused, reason: string, times = 1): boolean {
    let held = refused;
    for (let next = coarsened(held); next && !this.#hasPlace(held); next = coarsened(held)) held = next;
    const counts = this.#counts[detailOf(held)];
    const isFirst = !counts.has(keyOf(held));
    addTo(counts, held, new Map([[reason, times]]));
    return isFirst;
  }

  /** The counts since the last time: the most frequent ones apart, the rest together. */
  take(): Counted[] {
    const counts = this.#counts;
    this.#counts = emptyCounts();
    const told: Count[] = [];
    for (const detail of [2, 1, 0] as const) {
      const byTotal = [...counts[detail].values()].sort((one, other) => other.total - one.total);
      const toldOf = new Map<string, number>();
      for (const count of byTotal) {
        const { refused, reasons } = count;
        const before = toldOf.get(refused.tenant) ?? 0;
        const coarser = before < maxTold ? undefined : coarsened(refused);
        toldOf.set(refused.tenant, before + 1);
        if (coarser) addTo(counts[detailOf(coarser)], coarser, reasons);
        else told.push(count);
      }
    }
    return told;
  }

  #hasPlace(refused: Refused): boolean {
    const counts = this.#counts[detailOf(refused)];
    return counts.has(keyOf(refused)) || counts.size < maxHeld;
  }
}

function emptyCounts(): Record<0 | 1 | 2, Counts> {
  return { 0: new Map(), 1: new Map(), 2: new Map() };
}

class Count implements Counted {
  readonly refused: Refused;
  readonly reasons = new Map<string, number>();
  total = 0;

  constructor(refused: Refused) {
    this.refused = refused;
  }

  add(reason: string, times: number): void {
    const key = this.reasons.has(reason) || this.reasons.size < maxReasons ? reason : others;
    this.reasons.set(key, (this.reasons.get(key) ?? 0) + times);
    this.total += times;
  }
}

function addTo(counts: Counts, refused: Refused, reasons: ReadonlyMap<string, number>): void {
  const key = keyOf(refused);
  const count = counts.get(key) ?? new Count(refused);
  counts.set(key, count);
  for (const [reason, times] of reasons) count.add(reason, times);
}

function keyOf({ tenant, by, subject, network = '' }: Refused): string {
  return JSON.stringify([tenant, by.id, subject, network]);
}

/** 2 for what names a network, 1 for what names somebody, 0 for what can only be counted. */
function detailOf({ network, by, account }: Refused): 0 | 1 | 2 {
  if (network !== undefined) return 2;
  return by.id === '' && account === undefined ? 0 : 1;
}

/** The same with less detail; undefined when there is nothing left to leave out. */
function coarsened(refused: Refused): Refused | undefined {
  const detail = detailOf(refused);
  if (detail === 2) return { ...refused, network: undefined };
  return detail === 1 ? { ...refused, by: anonymousParty, subject: others, account: undefined } : undefined;
}
