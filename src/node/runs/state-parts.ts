/** The parts of a state that a runner sends before its answer. */
import { runnerLimits } from './runner-state.js';

export class StateParts {
  #parts: Buffer[] = [];
  #bytes = 0;

  /** False when the state is too large. */
  add(part: Buffer): boolean {
    this.#bytes += part.length;
    if (this.#bytes > runnerLimits.stateBytes) return false;
    this.#parts.push(part);
    return true;
  }

  /** Undefined when no part came: the state has not changed. */
  take(): Buffer | undefined {
    const state = this.#parts.length === 0 ? undefined : Buffer.concat(this.#parts);
    this.drop();
    return state;
  }

  drop(): void {
    this.#parts = [];
    this.#bytes = 0;
  }
}
