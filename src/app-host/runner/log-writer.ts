/** Log lines of a node half on their way to the agent. Lines are left out, and counted, while too much waits to be written. */
import type { Clock } from '../../base/clock.js';
import type { FrameConnection } from '../wire/frames.js';
import type { LogLevel } from './log.js';

export class LogWriter {
  readonly #connection: FrameConnection;
  readonly #clock: Clock;
  #lost = 0;
  #isFull = false;

  constructor(connection: FrameConnection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  write(level: LogLevel, text: string): void {
    if (this.#isFull) {
      this.#lost += 1;
      return;
    }
    if (this.#send(level, text)) return;
    this.#isFull = true;
    void this.#connection.drained().then(() => this.#onDrained());
  }

  #onDrained(): void {
    this.#isFull = false;
    if (this.#lost > 0) this.#send('warn', `${this.#lost} lines were lost: too many came at once`);
    this.#lost = 0;
  }

  #send(level: LogLevel, text: string): boolean {
    return this.#connection.send('log', { at: this.#clock.now(), level, text });
  }
}
