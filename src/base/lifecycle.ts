/**
 * Things are opened in order and closed in reverse. A failed start undoes what it opened; closing twice is one
 * promise; one failing close does not keep the others open.
 */

export interface Lifecycle {
  /** Opens something and remembers how to close it. */
  open<T>(open: () => T | Promise<T>, close: (opened: T) => void | Promise<void>): Promise<T>;
  /** Remembers something to do at close. */
  onClose(close: () => void | Promise<void>): void;
  /** Closes everything in reverse; rejects with the first error after all were tried. */
  close(): Promise<void>;
}

export function createLifecycle(): Lifecycle {
  const closers: (() => void | Promise<void>)[] = [];
  let closing: Promise<void> | undefined;

  async function closeAll(): Promise<void> {
    const errors: unknown[] = [];
    for (let close = closers.pop(); close; close = closers.pop()) {
      try {
        await close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  return {
    async open(open, close) {
      if (closing) throw new Error('already closing');
      const opened = await open();
      closers.push(() => close(opened));
      return opened;
    },
    onClose: close => void closers.push(close),
    close: () => (closing ??= closeAll()),
  };
}
