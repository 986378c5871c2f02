/** `rollcall nodes delete NODE…`: revokes nodes where that was not done, and forgets them but for the audit log. */
import type { DeleteNodeResponse } from '../../protocol/generated/rollcall/v1/control.js';
import type { ControlFlags } from '../control-options.js';
import { exitCodes, reportFailure } from '../failure.js';
import { formatCount, toJson } from '../format.js';
import type { Shell } from '../shell.js';
import { plainText } from '../../base/text.js';
import { asking, someWords } from './with-link.js';
import { nodeJson } from '../../protocol/node-json.js';

export interface DeleteFlags extends ControlFlags {
  readonly json?: boolean;
}

/** A node that cannot be deleted does not keep the others from it. */
export async function deleteNodes(shell: Shell, typed: string[], flags: DeleteFlags): Promise<number> {
  const names = someWords(shell, typed, 'node');
  return asking(shell, flags, async (nodes, progress) => {
    const deleted: DeleteNodeResponse[] = [];
    let code: number = exitCodes.done;
    for (const node of names) {
      try {
        const answer = await nodes.delete(node);
        progress.clear();
        deleted.push(answer);
        if (!flags.json) shell.stdout.write(`${deletedLine(node, answer)}\n`);
      } catch (error) {
        progress.clear();
        code = reportFailure(shell, error, names.length > 1 ? node : undefined);
        if (code === exitCodes.unreachable) break;
      }
    }
    if (flags.json) shell.stdout.write(`${toJson(deleted.map(deletedJson), 2)}\n`);
    return code;
  });
}

function deletedLine(typed: string, { node, sessionsEnded }: DeleteNodeResponse): string {
  const ended =
    sessionsEnded === 0 ? 'no session was open.' : `${formatCount(sessionsEnded, 'session')} ended.`;
  return `✅ Node ${node ? String(node.id) : plainText(typed)} deleted; ${ended}`;
}

function deletedJson({ node, sessionsEnded }: DeleteNodeResponse): Record<string, unknown> {
  return { ...(node && nodeJson(node)), sessionsEnded };
}
