/** Prints what following a run gives: lines of the log on standard output, how far the run is below them on a terminal. */
import { openNodes, type Nodes } from '../../control-client/nodes.js';
import type { Run, RunLogEntry } from '../../protocol/generated/rollcall/v1/runs.js';
import { formatRfc3339 } from '../../base/rfc3339.js';
import { toJson, formatMoment } from '../format.js';
import { paintOf, printHint, type Shell } from '../shell.js';
import { plainLine, plainText } from '../../base/text.js';
import { displayWidth, type Paint, type Shade, isTerminal } from '../terminal.js';
import type { Asked } from './with-link.js';
import { describeMessages, runWord } from './run-view.js';
import { isRollcallError } from '../../base/errors.js';

export interface LogPrinter {
  entry(entry: RunLogEntry): Promise<void>;
  run(run: Run): void;
  /** The link has gone away. */
  lost(): void;
  /** Nothing more is printed by it, and its connection is closed. */
  end(): void;
}

export interface PrinterOptions {
  readonly json: boolean;
  /** As JSON, around an entry. */
  readonly wrap?: (entry: Record<string, unknown>) => object;
}

const widestName = 20;

export function createLogPrinter(
  shell: Shell,
  { target, tokens }: Pick<Asked, 'target' | 'tokens'>,
  { json, wrap = entry => entry }: PrinterOptions,
): LogPrinter {
  const nodes = openNodes(target, tokens);
  const nameOf = createNodeNames(nodes);
  const paint = paintOf(shell);
  const status = createStatusLine(shell);
  let width = 'server'.length;

  async function format(entry: RunLogEntry): Promise<string> {
    if (json) return toJson(wrap(entryJson(entry)));
    const who = entry.node === 0n ? speakerOf(entry) : await nameOf(entry.node);
    // The columns line up from the first longer name on.
    width = Math.min(widestName, Math.max(width, displayWidth(plainText(who))));
    return formatEntry(entry, who, width, paint);
  }

  return {
    async entry(entry) {
      const line = await format(entry);
      status.makeRoom();
      shell.stdout.write(`${line}\n`);
    },
    run(run) {
      const waiting = runWord(run) === 'pending' && run.reason !== '' ? ` (${run.reason})` : '';
      status.say(`${runWord(run)}${waiting}, ${describeMessages(run)}`);
    },
    lost() {
      status.makeRoom();
      printHint(shell, 'the link went away; asking again until it is back');
      status.say('waiting for the link');
    },
    end() {
      status.end();
      nodes.close();
    },
  };
}

const shades: Partial<Record<string, Shade>> = { warn: 'yellow', error: 'red', debug: 'dim', link: 'dim' };

/** The source of a line that is not of a node. */
function speakerOf({ level }: RunLogEntry): string {
  return level === 'link' ? 'link' : 'server';
}

/** When, who, what; every line of the text but the first is set in, so that none looks like an entry of its own. */
export function formatEntry(entry: RunLogEntry, who: string, width: number, paint: Paint): string {
  const name = plainText(who);
  const head = `${formatMoment(entry.atMs)}  ${name}${' '.repeat(Math.max(0, width - displayWidth(name)))}  `;
  const isNamed = entry.level !== 'info' && entry.level !== 'link';
  const text = `${isNamed ? `${plainText(entry.level)}: ` : ''}${entry.text}`;
  const indent = `\n${' '.repeat(displayWidth(head))}`;
  const lines = text.replace(/\n+$/, '').split('\n');
  return head + lines.map(line => paint(shades[entry.level], plainLine(line))).join(indent);
}

function entryJson({ number, atMs, node, level, text }: RunLogEntry): Record<string, unknown> {
  return {
    number: Number(number),
    at: formatRfc3339(atMs) ?? null,
    node: node === 0n ? null : `${node}`,
    level,
    text,
  };
}

/** The names of the nodes that say something in a log, each asked for once; without the right to see nodes, their ids. */
type NodeNames = (id: bigint) => Promise<string>;

function createNodeNames(nodes: Pick<Nodes, 'get'>): NodeNames {
  const known = new Map<bigint, string>();
  // Each refusal is told of in the audit log: one is enough.
  let isRefused = false;
  return async id => {
    const name = known.get(id);
    if (name !== undefined || isRefused) return name ?? `${id}`;
    try {
      const node = await nodes.get(id);
      known.set(id, node.name === '' ? `${id}` : node.name);
    } catch (error) {
      isRefused = isRollcallError(error, 'NOT_ALLOWED');
      // A node that is gone has no name any more; a link that is gone may come back.
      if (isRollcallError(error, 'NODE_NOT_FOUND')) known.set(id, `${id}`);
    }
    return known.get(id) ?? `${id}`;
  };
}

const clearLine = '\r\x1b[2K';
/** Nothing is printed for so long, ms. */
const quietMs = 200;
const defaultColumns = 80;

/** One line below the log: how far the run is, on standard error of a terminal, while nothing is printed. */
interface StatusLine {
  /** The status from now on, shown while nothing is printed. */
  say(text: string): void;
  /** To be called before anything is printed: takes the line away for a moment. */
  makeRoom(): void;
  /** Takes it away for good. */
  end(): void;
}

function createStatusLine({ stderr, environment }: Shell): StatusLine {
  if (!isTerminal(stderr, environment))
    return { say: () => undefined, makeRoom: () => undefined, end: () => undefined };
  let text = '';
  let isShown = false;
  let timer: NodeJS.Timeout | undefined;
  const show = (): void => {
    const { columns = defaultColumns } = stderr as { readonly columns?: number };
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
