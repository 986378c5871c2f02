/** How much of something each party holds: places, connections, bytes. Whether it may have more is for the caller to say. */
export class Shares {
  readonly #held = new Map<string, number>();

  of(party: string): number {
    return this.#held.get(party) ?? 0;
  }

  take(party: string, amount = 1): void {
    this.#held.set(party, this.of(party) + amount);
  }

  giveBack(party: string, amount = 1): void {
    const left = this.of(party) - amount;
    if (left > 0) this.#held.set(party, left);
    else this.#held.delete(party);
  }
}
