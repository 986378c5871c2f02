/**
 * Objects that were begun and not retained since. They may share chunks with an object that is released meanwhile, and those
 * chunks must stay: the writer was told that they need not be sent. Pure, and bounded: the oldest entry is forgotten first.
 */
import type { Manifest } from './manifest.js';

interface Begun {
  readonly manifest: Manifest;
  isStored: boolean;
  isRetained: boolean;
}

const maxBegun = 16;

export class BegunObjects {
  readonly #entries = new Map<string, Begun>();

  add(manifest: Manifest): void {
    const isStored = this.#entries.get(manifest.digest)?.isStored ?? false;
    this.#entries.delete(manifest.digest);
    this.#entries.set(manifest.digest, { manifest, isStored, isRetained: false });
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > maxBegun && oldest !== undefined) this.#entries.delete(oldest);
  }

  /** The object is stored; an object that is both stored and retained is protected by its manifest. */
  noteStored(digest: string): void {
    const entry = this.#entries.get(digest);
    if (entry?.isRetained) this.#entries.delete(digest);
    else if (entry) entry.isStored = true;
  }

  noteRetained(digest: string): void {
    const entry = this.#entries.get(digest);
    if (entry?.isStored) this.#entries.delete(digest);
    else if (entry) entry.isRetained = true;
  }

  /** Its writer began it (again) and has yet to retain it. */
  awaitsRetain(digest: string): boolean {
    return this.#entries.get(digest)?.isRetained === false;
  }

  /** Forgets the object and returns its manifest. */
  take(digest: string): Manifest | undefined {
    const manifest = this.#entries.get(digest)?.manifest;
    this.#entries.delete(digest);
    return manifest;
  }

  /** Digests of the chunks of all entries. */
  chunks(): Set<string> {
    return new Set([...this.#entries.values()].flatMap(({ manifest }) => manifest.chunks));
  }
}
