/**
 * The name in a node certificate: `spiffe://<trust domain>/node/<node id>`, by the rules of the SPIFFE ID
 * specification §2. Parsing is strict: one spelling for each node, and every other one is refused.
 */
import { RollcallError } from '../base/errors.js';
import { findNodeId, type NodeId } from './node-id.js';

export interface SpiffeId {
  readonly trustDomain: string;
  readonly nodeId: NodeId;
}

const trustDomainPattern = /^[a-z0-9._-]{1,255}$/;

export function isTrustDomain(text: string): boolean {
  return trustDomainPattern.test(text);
}

/** The text itself when it is a trust domain name (SPIFFE ID §2.1); CONFIG_INVALID otherwise. */
export function parseTrustDomain(text: string): string {
  if (!isTrustDomain(text)) {
    throw new RollcallError(
      'CONFIG_INVALID',
      'a trust domain is 1 to 255 lower-case letters, digits, dots, dashes and underscores',
      { hint: 'for example: fleet.example.org' },
    );
  }
  return text;
}

export function formatSpiffeId(trustDomain: string, nodeId: NodeId): string {
  return `spiffe://${trustDomain}/node/${nodeId}`;
}

export function parseSpiffeId(text: string): SpiffeId | undefined {
  const match = /^spiffe:\/\/([^/]+)\/node\/(\d+)$/.exec(text);
  const [, trustDomain = '', digits = ''] = match ?? [];
  const nodeId = findNodeId(digits);
  return nodeId !== undefined && isTrustDomain(trustDomain) ? { trustDomain, nodeId } : undefined;
}
