/**
 * The log lines of a server half that the link does not have on its disk yet: numbered from 1, sent as fast as the link takes it, and
 * again after a reconnect. It is bounded: when an app logs faster than that, the least important lines go first, counted.
 */
import type { Clock } from '../../base/clock.js';
import type { LogLevel, WriteLog } from './log.js';
import type { RunnerLink } from './link.js';

export interface LogBook {
  readonly write: WriteLog;
  /** The link has all lines up to this one. */
  onLogged(sequence: number): void;
  /** Everything that is kept goes again. */
  onConnected(): void;
  /** Resolves when all that was written is sent on the connection there is. */
  sent(): Promise<void>;
}

interface Line {
  readonly sequence: number;
  readonly at: number;
  readonly level: LogLevel;
  readonly text: string;
}

const maxLines = 10_000;

export function createLogBook(link: Pick<RunnerLink, 'send' | 'ready'>, clock: Clock): LogBook {
  /** In order. */
  const lines = new Map<number, Line>();
  let sequence = 0;
  let sentTo = 0;
  let lost = 0;
  let sending: Promise<void> | undefined;

  function add(level: LogLevel, text: string): void {
    sequence += 1;
    lines.set(sequence, { sequence, at: clock.now(), level, text });
  }

  function makeRoom(): void {
    if (lines.size < maxLines) return;
    // Looking through all of them for each line that is written would take longer than the line is worth.
    const min = [...lines.values()].filter(({ level }) => level === 'debug' || level === 'info');
    const leaving = (min.length > 0 ? min : [...lines.values()]).slice(0, maxLines / 10);
    for (const line of leaving) lines.delete(line.sequence);
    lost += leaving.length;
  }

  async function sendAll(): Promise<void> {
    // Lines of the same turn go together, and anyone who writes them is not held up.
    await Promise.resolve();
    for (;;) {
      const next = nextLine();
      if (!next) {
        sending = undefined;
        return;
      }
      sentTo = next.sequence;
      if (!link.send('log', next)) await link.ready();
    }
  }

  function nextLine(): Line | undefined {
    while (sentTo < sequence) {
      const line = lines.get(sentTo + 1);
      if (line) return line;
      sentTo += 1;
    }
    if (lost === 0) return undefined;
    add('warn', `${lost} lines of the log were lost: too many came at once`);
    lost = 0;
    return lines.get(sequence);
  }

  function start(): void {
    sending ??= sendAll();
  }

  return {
    write(level, text) {
      makeRoom();
      add(level, text);
      start();
    },
    onLogged(upTo) {
      for (const number of lines.keys()) {
        if (number > upTo) break;
        lines.delete(number);
      }
    },
    onConnected() {
      const [first = sequence + 1] = lines.keys();
      sentTo = first - 1;
      start();
    },
    sent: () => sending ?? Promise.resolve(),
  };
}
