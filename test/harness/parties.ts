/** Parties of audit events that a test makes up. */
import type { Party } from '../../src/audit-log/party.js';

export function userParty(name: string): Party {
  return { kind: 'user', id: `user:${Buffer.from(name).toString('hex')}`, name };
}

export function serviceParty(name: string): Party {
  return { ...userParty(name), kind: 'service', id: `service:${Buffer.from(name).toString('hex')}` };
}
