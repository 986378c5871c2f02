/** A line for people while something takes more than a second: on standard error, only on a terminal, gone at the end. */
import { isTerminal } from './terminal.js';
import type { Shell } from './shell.js';

const patienceMs = 1_000;
const clearLine = '\r\x1b[2K';

export interface Progress {
  /** The text from now on. */
  say(text: string): void;
  /** Takes the line away; to be called before anything else is printed and at the end. */
  clear(): void;
}

/** Starts silent; says `text` after a second, and each later text as it comes. */
export function startProgress(shell: Shell, text: string): Progress {
  if (!isTerminal(shell.stderr, shell.environment)) return { say: () => undefined, clear: () => undefined };
  let current = text;
  let shown = false;
  const show = () => {
    shown = true;
    shell.stderr.write(`${clearLine}${current} …`);
  };
  const timer = setTimeout(show, patienceMs);
  return {
    say(next) {
      current = next;
      if (shown) show();
    },
    clear() {
      clearTimeout(timer);
      if (shown) shell.stderr.write(clearLine);
      shown = false;
    },
  };
}
