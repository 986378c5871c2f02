/** `rollcall nodes watch`: a line for each change, as it happens, until Ctrl-C. */
import { isRollcallError } from '../../base/errors.js';
import type { Node } from '../../protocol/generated/rollcall/v1/control.js';
import { statusName } from '../../protocol/node-status.js';
import type { ControlFlags } from '../control-options.js';
import { formatMoment, toJson } from '../format.js';
import { isInteractive, paintOf, printHint, type Shell } from '../shell.js';
import { plainText } from '../../base/text.js';
import type { Paint } from '../terminal.js';
import { asking } from './with-link.js';
import { nodeJson } from '../../protocol/node-json.js';
import { statusShade } from './status-shade.js';

export interface WatchFlags extends ControlFlags {
  readonly snapshot?: boolean;
  readonly json?: boolean;
}

/** Ends with 0 at Ctrl-C, and with 3 and a sentence when the link goes away. */
export async function watchNodes(shell: Shell, flags: WatchFlags): Promise<number> {
  const print = printer(shell, flags);
  for (let isFirst = true; ; isFirst = false) {
    const course: Course = { isFirst, wasOn: false };
    try {
      return await watchOnce(shell, flags, print, course);
    } catch (error) {
      // The token has ended meanwhile. A login has another; anyone who cannot get one is told why by the next.
      if (!isRollcallError(error, 'TOKEN_REFUSED') || !course.wasOn) throw error;
      print.resume();
    }
  }
}

interface Course {
  readonly isFirst: boolean;
  /** The link took the token, once. */
  wasOn: boolean;
}

function watchOnce(shell: Shell, flags: WatchFlags, print: Printer, course: Course): Promise<number> {
  const { isFirst } = course;
  return asking(shell, flags, async (nodes, progress, addressText) => {
    const ending = new AbortController();
    const forget = shell.onInterrupt(() => ending.abort());
    const changes = nodes.watch({
      // The snapshot shows the changes in between.
      snapshot: !isFirst || (flags.snapshot ?? false),
      signal: ending.signal,
      onOpen: () => {
        course.wasOn = true;
        progress.clear();
        const isWanted = isFirst && isInteractive(shell) && !flags.json;
        if (isWanted) printHint(shell, `watching ${addressText}; Ctrl-C ends it`);
      },
    });
    try {
      for await (const node of changes) print.node(node);
    } finally {
      forget();
    }
    return undefined;
  });
}

interface Printer {
  node(node: Node): void;
  /** From now on what was said already is not said again. */
  resume(): void;
}

function printer(shell: Shell, flags: WatchFlags): Printer {
  const paint = paintOf(shell);
  const said = new Map<bigint, string>();
  const beganAt = shell.now();
  let isResumed = false;
  return {
    node(node) {
      const line = flags.json ? toJson(nodeJson(node)) : changeLine(node, paint);
      const isOld = said.get(node.id) === line || (!said.has(node.id) && Number(node.sinceMs) < beganAt);
      said.set(node.id, line);
      if (!isResumed || !isOld) shell.stdout.write(`${line}\n`);
    },
    resume: () => void (isResumed = true),
  };
}

/** When, who, what, why; the columns line up. */
function changeLine(node: Node, paint: Paint): string {
  const status = statusName(node.status);
  const gap = ' '.repeat(Math.max(0, 11 - status.length));
  const cells = [
    formatMoment(node.sinceMs),
    String(node.id).padEnd(20),
    paint(statusShade(status), status) + gap,
    plainText(node.reason),
    node.name === '' ? '' : `(${plainText(node.name)})`,
  ];
  return cells.filter(cell => cell !== '').join('  ');
}
