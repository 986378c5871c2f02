/**
 * Every connection is a file descriptor, and when they are used up nobody gets in: no operator, no node with a session,
 * and the store cannot open its files. So connections without a session may have half of them, whatever the
 * configuration allows, and each of the two ports a quarter.
 */
import { readFileSync } from 'node:fs';
import type { Caps } from './pending-connections.js';

const shareOfPort = 4;

/** How many descriptors this process may have open; Infinity where the system does not say (it is read from /proc). */
export function descriptorLimit(): number {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return soft === undefined ? Infinity : Number(soft);
  } catch {
    return Infinity;
  }
}

/** The caps that hold for one port under this limit; one address keeps its share of the total. */
export function capsWithin(caps: Caps, limit: number): Caps {
  const total = Math.min(caps.total, Math.max(1, Math.floor(limit / shareOfPort)));
  if (total === caps.total) return caps;
  return { total, perAddress: Math.max(1, Math.ceil((caps.perAddress * total) / caps.total)) };
}
