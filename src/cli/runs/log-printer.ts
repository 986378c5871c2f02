/** Prints what following a run gives: lines of the log on standard output, how far the run is below them on a terminal. */
import { openNodes } from '../../control-client/nodes.js';
import type { Run, RunLogEntry } from '../../protocol/generated/rollcall/v1/runs.js';
import { toJson } from '../format.js';
import { paintOf, printHint, type Shell } from '../shell.js';
import { displayWidth, plainText } from '../terminal.js';
import type { Asked } from './with-link.js';
import { entryJson, formatEntry, speakerOf } from './log-view.js';
import { createNodeNames } from './node-names.js';
import { describeMessages, runWord } from './run-view.js';
import { createStatusLine } from './status-line.js';

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
