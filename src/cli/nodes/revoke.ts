/** `rollcall nodes revoke NODE…`: ends what a node may do, and every session it has, at once. */
import type { RevokeNodeResponse } from '../../protocol/generated/rollcall/v1/control.js';
import type { ControlFlags } from '../control-options.js';
import { exitCodes, reportFailure } from '../failure.js';
import { formatCount, formatMicroseconds, formatMoment, toJson } from '../format.js';
import type { Shell } from '../shell.js';
import { plainText } from '../../base/text.js';
import { asking, someWords } from './with-link.js';
import { nodeJson } from '../../protocol/node-json.js';

export interface RevokeFlags extends ControlFlags {
  readonly comment?: string;
  readonly json?: boolean;
}

/** A node that cannot be revoked does not keep the others from it. */
export async function revokeNodes(shell: Shell, typed: string[], flags: RevokeFlags): Promise<number> {
  const names = someWords(shell, typed, 'node');
  return asking(shell, flags, async (nodes, progress) => {
    const revoked: RevokeNodeResponse[] = [];
    let code: number = exitCodes.done;
    for (const node of names) {
      try {
        const answer = await nodes.revoke(node, flags.comment);
        progress.clear();
        revoked.push(answer);
        if (!flags.json) shell.stdout.write(`${revokedLine(node, answer)}\n`);
      } catch (error) {
        progress.clear();
        code = reportFailure(shell, error, names.length > 1 ? node : undefined);
        if (code === exitCodes.unreachable) break;
      }
    }
    if (flags.json) shell.stdout.write(`${toJson(revoked.map(revokedJson), 2)}\n`);
    return code;
  });
}

function revokedLine(typed: string, answer: RevokeNodeResponse): string {
  const { node, sessionsEnded, closedAfterUs, alreadyRevoked } = answer;
  if (node && alreadyRevoked) return `✅ Node ${node.id} was revoked already, ${formatMoment(node.sinceMs)}.`;
  const ended =
    sessionsEnded === 0
      ? 'no session was open.'
      : `${formatCount(sessionsEnded, 'session')} ended in ${formatMicroseconds(closedAfterUs)}.`;
  return `✅ Node ${node ? String(node.id) : plainText(typed)} revoked; ${ended}`;
}

function revokedJson(answer: RevokeNodeResponse): Record<string, unknown> {
  const { node, sessionsEnded, closedAfterUs, alreadyRevoked } = answer;
  return {
    ...(node && nodeJson(node)),
    sessionsEnded,
    closedAfterMs: Number(closedAfterUs) / 1000,
    alreadyRevoked,
  };
}
