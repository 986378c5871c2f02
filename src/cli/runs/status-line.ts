/** One line below a log that goes by: how far the run is, on standard error, only on a terminal, and only while nothing is printed. */
import type { Shell } from '../shell.js';
import { isTerminal, plainText } from '../terminal.js';

const clearLine = '\r\x1b[2K';
/** Nothing is printed for so long, ms. */
const quietMs = 200;
const usualColumns = 80;

export interface StatusLine {
  /** What to say from now on, once nothing is printed. */
  say(text: string): void;
  /** To be called before anything is printed: takes the line away for a moment. */
  makeRoom(): void;
  /** Takes it away for good. */
  end(): void;
}

export function createStatusLine({ stderr, environment }: Shell): StatusLine {
  if (!isTerminal(stderr, environment))
    return { say: () => undefined, makeRoom: () => undefined, end: () => undefined };
  let text = '';
  let isShown = false;
  let timer: NodeJS.Timeout | undefined;
  const show = (): void => {
    const { columns = usualColumns } = stderr as { readonly columns?: number };
    isShown = true;
    stderr.write(`${clearLine}${plainText(text).slice(0, columns - 3)} …`);
  };
  const hide = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (isShown) stderr.write(clearLine);
    isShown = false;
  };
  const showSoon = (): void => {
    timer ??= setTimeout(show, quietMs);
  };
  return {
    say(next) {
      text = next;
      if (isShown) show();
      else showSoon();
    },
    makeRoom() {
      hide();
      if (text !== '') showSoon();
    },
    end() {
      text = '';
      hide();
    },
  };
}
