/** Waiting for a time, for a signal, or for somebody else to settle a promise. */
import type { Clock } from './clock.js';

/** A promise and what settles it. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** `Promise.withResolvers` (ES2024), which Node.js 20 does not have. */
export function deferred<T = void>(): Deferred<T> {
  let settle: Omit<Deferred<T>, 'promise'> | undefined;
  const promise = new Promise<T>((resolve, reject) => (settle = { resolve, reject }));
  return { promise, ...(settle as unknown as Omit<Deferred<T>, 'promise'>) };
}

/** Calls `stop` when the signal is aborted, at once if it is already; the function it gives takes that back. */
export function onAbort(signal: AbortSignal | undefined, stop: () => void): () => void {
  if (signal?.aborted) stop();
  else signal?.addEventListener('abort', stop, { once: true });
  return () => signal?.removeEventListener('abort', stop);
}

/** Resolves after this time, or as soon as the signal is aborted. */
export async function sleep(
  clock: Pick<Clock, 'after'>,
  delayMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const { promise, resolve } = deferred();
  const timer = clock.after(delayMs, resolve);
  const forget = onAbort(signal, resolve);
  await promise;
  timer.cancel();
  forget();
}

/** Resolves with the result of the work; rejects with the signal's reason when it is aborted first. The work goes on. */
export async function withAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = deferred<never>();
  const forget = onAbort(signal, () => aborted.reject(signal.reason));
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    forget();
  }
}
