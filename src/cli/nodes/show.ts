/** `rollcall nodes show NODE`: everything the link knows of one node. */
import type { Node } from '../../protocol/generated/rollcall/v1/control.js';
import { statusName } from '../../control-client/node-status.js';
import type { ControlFlags } from '../control-options.js';
import { formatElapsed, formatLabels, formatMoment, toJson } from '../format.js';
import { paintOf, type Shell } from '../shell.js';
import { plainText, type Paint } from '../terminal.js';
import { asking } from './with-link.js';
import { nodeJson, statusShade } from './node-view.js';

export interface ShowFlags extends ControlFlags {
  readonly json?: boolean;
}

export async function showNode(shell: Shell, name: string, flags: ShowFlags): Promise<number> {
  return asking(shell, flags, async (nodes, progress) => {
    const node = await nodes.get(name);
    progress.clear();
    const text = flags.json ? `${toJson(nodeJson(node), 2)}\n` : describe(node, shell.now(), paintOf(shell));
    shell.stdout.write(text);
    return undefined;
  });
}

/** One `Name  value` line for each thing that is known. */
function describe(node: Node, nowMs: number, paint: Paint): string {
  const lines = facts(node, nowMs).filter(([, value]) => value !== '');
  const width = Math.max(...lines.map(([name]) => name.length));
  return lines
    .map(([name, value]) => {
      const shade = name === 'Status' ? statusShade(value) : undefined;
      return `${paint('dim', name.padEnd(width))}  ${paint(shade, plainText(value))}\n`;
    })
    .join('');
}

function facts(node: Node, nowMs: number): readonly (readonly [string, string])[] {
  const moment = (ms: bigint) => (ms === 0n ? '' : formatMoment(ms));
  const since = moment(node.sinceMs);
  return [
    ['Node ID', String(node.id)],
    ['Name', node.name],
    ['Owner', node.owner === '' ? '<none>' : node.owner],
    ['Status', statusName(node.status)],
    ['Since', since === '' ? '' : `${since} (${formatElapsed(nowMs - Number(node.sinceMs))})`],
    ['Reason', node.reason],
    ['Fingerprint', node.fingerprint],
    ['Labels', formatLabels(node.labels)],
    ['Address', node.address],
    ['Agent', node.agentVersion],
    ['Certificate ends', moment(node.certificateExpiresAtMs)],
    ['Registered', moment(node.registeredAtMs)],
    ['Tenant', node.tenant],
  ];
}
