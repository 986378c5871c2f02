/** The hosting of runners: opened when the first runner is needed, or at the start, and waited for until it can start runners. */
import type { Lifecycle } from '../../base/lifecycle.js';
import type { Log } from '../../base/log.js';
import { deferred, withAbort } from '../../base/wait.js';
import type { Hosting } from '../../app-host/hosting/hosting.js';

export class HostingHolder {
  readonly #openHosting: () => Promise<Hosting>;
  readonly #lifecycle: Lifecycle;
  readonly #log: Log;
  readonly #readyListeners = new Set<() => void>();
  #opening: Promise<Hosting> | undefined;

  /** The lifecycle closes the hosting. */
  constructor(openHosting: () => Promise<Hosting>, lifecycle: Lifecycle, log: Log) {
    this.#openHosting = openHosting;
    this.#lifecycle = lifecycle;
    this.#log = log;
  }

  /** Opens the hosting, or gives the open one. A failure is not remembered. */
  open(): Promise<Hosting> {
    return (this.#opening ??= this.#open());
  }

  /** Resolves when the hosting can start runners. Rejects when the signal is aborted. */
  async whenReady(hosting: Hosting, signal: AbortSignal): Promise<void> {
    if (hosting.isReady()) return;
    this.#log.warn({ socket: hosting.socketPath }, 'an app waits for an app host to connect');
    const { promise: ready, resolve } = deferred();
    this.#readyListeners.add(resolve);
    try {
      await withAbort(ready, signal);
    } finally {
      this.#readyListeners.delete(resolve);
    }
  }

  /** Resolves when the hosting is not being opened any more. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.#opening]);
  }

  async #open(): Promise<Hosting> {
    try {
      const hosting = await this.#openHosting();
      this.#lifecycle.onClose(() => hosting.close());
      hosting.onReady(() => {
        for (const listener of [...this.#readyListeners]) listener();
      });
      return hosting;
    } catch (error) {
      this.#opening = undefined;
      throw error;
    }
  }
}
