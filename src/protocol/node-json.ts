/** A node as JSON, in answers of REST and in the output of the command with `--json`. */
import { formatRfc3339 } from '../base/rfc3339.js';
import type { Node, Transition } from './generated/rollcall/v1/control.js';
import { statusName } from './node-status.js';

/** Unknown values are null; the keys are always the same. */
export function nodeJson(node: Node): Record<string, unknown> {
  return {
    id: String(node.id),
    name: textOrNull(node.name),
    owner: textOrNull(node.owner),
    tenant: node.tenant,
    labels: { ...node.labels },
    status: statusName(node.status),
    since: formatRfc3339(node.sinceMs) ?? null,
    reason: textOrNull(node.reason),
    registeredAt: formatRfc3339(node.registeredAtMs) ?? null,
    address: textOrNull(node.address),
    agentVersion: textOrNull(node.agentVersion),
    certificateExpiresAt: formatRfc3339(node.certificateExpiresAtMs) ?? null,
    fingerprint: node.fingerprint,
    publicKey: node.publicKey.toString('base64'),
  };
}

export function transitionJson(transition: Transition): Record<string, unknown> {
  return {
    at: formatRfc3339(transition.atMs) ?? null,
    status: statusName(transition.status),
    reason: textOrNull(transition.reason),
    detail: textOrNull(transition.detail),
    address: textOrNull(transition.address),
  };
}

function textOrNull(text: string): string | null {
  return text === '' ? null : text;
}
