/**
 * How many loops of the app wait for an answer and have none. While there is one, no answers are held back: the link sends only
 * so many that are not taken, and the answer that the loop waits for may come after them.
 */
export class WaitingReaders {
  #count = 0;
  readonly #calls = new Set<() => void>();

  begin(): void {
    this.#count += 1;
    const called = [...this.#calls];
    this.#calls.clear();
    for (const call of called) call();
  }

  end(): void {
    this.#count -= 1;
  }

  get areThere(): boolean {
    return this.#count > 0;
  }

  /** Calls once, when the next one begins; the same function is kept once. */
  onNext(call: () => void): void {
    this.#calls.add(call);
  }
}
