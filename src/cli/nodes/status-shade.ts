/** The colour of a node's status. Pure. */
import type { Shade } from '../terminal.js';

const statusShades: Partial<Record<string, Shade>> = {
  created: 'dim',
  online: 'green',
  offline: 'yellow',
  revoked: 'red',
  pending: 'dim',
  quarantined: 'red',
};

export function statusShade(name: string): Shade | undefined {
  return statusShades[name];
}
