/** `rollcall nodes watch`: a line for each change, as it happens, until Ctrl-C. */
import type { Node } from '../../protocol/generated/rollcall/v1/control.js';
import type { ControlFlags } from '../control-options.js';
import { formatMoment, toJson } from '../format.js';
import { isSeen, paintOf, printHint, type Shell } from '../shell.js';
import { plainText, type Paint } from '../terminal.js';
import { asking } from './asking.js';
import { nodeJson, statusName, statusShade } from './node-view.js';

export interface WatchFlags extends ControlFlags {
  readonly snapshot?: boolean;
  readonly json?: boolean;
}

/** Ends with 0 at Ctrl-C, and with 3 and a sentence when the link goes away. */
export async function watchNodes(shell: Shell, flags: WatchFlags): Promise<number> {
  const paint = paintOf(shell);
  return asking(shell, flags, async (control, progress) => {
    const watch = control.watchNodes({
      snapshot: flags.snapshot ?? false,
      onOpen: () => {
        progress.clear();
        if (isSeen(shell) && !flags.json) printHint(shell, `watching ${control.addressText}; Ctrl-C ends it`);
      },
      onNode: node => {
        shell.stdout.write(`${flags.json ? toJson(nodeJson(node)) : changeLine(node, paint)}\n`);
      },
    });
    const forget = shell.onInterrupt(() => watch.stop());
    try {
      await watch.ended;
    } finally {
      forget();
    }
    return undefined;
  });
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
