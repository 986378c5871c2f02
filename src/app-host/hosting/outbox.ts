/**
 * Keeps the reports of a supervisor, in order and bounded, while it has no connection or much waits to be written. Lines
 * beyond the bound are counted, and reported in one line of each run; ends of runners are always kept.
 */
import type { FrameConnection } from '../wire/frames.js';
import type { RunnerExit } from './hosting.js';
import type { OutputStream } from './runner-output.js';

export interface Outbox {
  output(run: string, stream: OutputStream, text: string): void;
  exited(run: string, exit: RunnerExit): void;
  /** Runs whose end was not reported yet. */
  unreported(): readonly string[];
  /** Reports everything kept, in order, then each new report, until the connection is closed. */
  connect(connection: FrameConnection): void;
}

export const maxKeptLines = 2_000;

type Kept =
  | { readonly run: string; readonly stream: OutputStream; readonly text: string }
  | { readonly run: string; readonly exit: RunnerExit };

export function createOutbox(): Outbox {
  const kept: Kept[] = [];
  const leftOut = new Map<string, number>();
  let connection: FrameConnection | undefined;
  let isEmptying = false;

  function sendLeftOut(to: FrameConnection, run: string): void {
    const lines = leftOut.get(run);
    if (lines === undefined) return;
    leftOut.delete(run);
    to.send('output', {
      run,
      stream: 'stderr',
      text: `(${lines} lines were dropped: the link did not read them in time)`,
    });
  }

  function send(to: FrameConnection, next: Kept): boolean {
    const { run } = next;
    if (!('exit' in next)) return to.send('output', next);
    sendLeftOut(to, run);
    return to.send('exited', { run, ...next.exit });
  }

  async function empty(to: FrameConnection): Promise<void> {
    isEmptying = true;
    for (let next = kept[0]; next && !to.closed; next = kept[0]) {
      kept.shift();
      if (!send(to, next)) await to.drained();
    }
    for (const run of leftOut.keys()) if (!to.closed) sendLeftOut(to, run);
    isEmptying = false;
    if (connection && (kept.length > 0 || leftOut.size > 0)) await empty(connection);
  }

  function put(next: Kept): void {
    kept.push(next);
    if (connection && !isEmptying) void empty(connection);
  }

  return {
    output(run, stream, text) {
      if (kept.length >= maxKeptLines) leftOut.set(run, (leftOut.get(run) ?? 0) + 1);
      else put({ run, stream, text });
    },
    exited: (run, exit) => put({ run, exit }),
    unreported: () => kept.filter(each => 'exit' in each).map(({ run }) => run),
    connect(next) {
      connection = next;
      next.onClose(() => {
        if (connection === next) connection = undefined;
      });
      if (!isEmptying) void empty(next);
    },
  };
}
