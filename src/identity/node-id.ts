/** A node's id: a random non-zero unsigned 64-bit number, printed in decimal, independent of the node. */
import { RollcallError } from '../base/errors.js';
import type { Random } from '../base/random.js';

export type NodeId = bigint;

const largest = (1n << 64n) - 1n;

export function isNodeId(value: unknown): value is NodeId {
  return typeof value === 'bigint' && value > 0n && value <= largest;
}

/** The id in the text, or undefined: decimal digits, no sign, no leading zero, not 0, at most 2^64 - 1. */
export function findNodeId(text: string): NodeId | undefined {
  if (!/^[1-9]\d{0,19}$/.test(text)) return undefined;
  const id = BigInt(text);
  return isNodeId(id) ? id : undefined;
}

/** Like findNodeId, but throws REQUEST_INVALID for an invalid id. */
export function parseNodeId(text: string): NodeId {
  const id = findNodeId(text);
  if (id === undefined) {
    throw new RollcallError(
      'REQUEST_INVALID',
      'a node id is a decimal number from 1 to 18446744073709551615, without a sign or leading zeros',
      { hint: '`rollcall nodes list` shows the ids' },
    );
  }
  return id;
}

export function randomNodeId(random: Random): NodeId {
  for (;;) {
    const id = random(8).readBigUInt64BE();
    if (isNodeId(id)) return id;
  }
}
