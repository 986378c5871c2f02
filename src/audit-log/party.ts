/**
 * The party of an event in the audit log: a kind of a closed set, the id that stays theirs for ever, and the name
 * that people know. A service and a user of the same name differ by kind and id.
 */

export const partyKinds = ['user', 'service', 'node', 'link', 'setup', 'anonymous'] as const;
export type PartyKind = (typeof partyKinds)[number];

export interface Party {
  readonly kind: PartyKind;
  /** As `sub` in a token: `user:…`, `service:…` or `node:…`. Empty for a kind that has no individuals. */
  readonly id: string;
  /** The name of the user, service or node; the kind itself where there are no individuals. */
  readonly name: string;
}

/** The link itself. */
export const linkParty: Party = { kind: 'link', id: '', name: 'link' };
/** The holder of the setup code, who is not a user yet. */
export const setupParty: Party = { kind: 'setup', id: '', name: 'setup' };
/** A peer that has not proved who it is; its address is all that is known. */
export const anonymousParty: Party = { kind: 'anonymous', id: '', name: 'anonymous' };

/** A node without a name goes by its id. */
export function nodeParty({ id, name }: { readonly id: bigint; readonly name: string }): Party {
  return { kind: 'node', id: `node:${id}`, name: name === '' ? `${id}` : name };
}

/** `user:alice`, or the kind alone where there are no individuals. Entries of before version 3 hold a text of their own. */
export function formatParty(by: Party | string): string {
  if (typeof by === 'string') return by;
  return by.id === '' ? by.kind : `${by.kind}:${by.name}`;
}

/** Whether a text that somebody typed means this party: a name, an id, or what `formatParty` gives. */
export function isParty(by: Party | string, text: string): boolean {
  if (typeof by === 'string') return by === text;
  return [by.name, by.id, formatParty(by)].includes(text);
}

/** The party in a value that JSON.parse gave, whatever else is in it; undefined when it is not one. */
export function findParty(value: unknown): Party | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { kind, id, name } = value as Readonly<Record<string, unknown>>;
  const known = partyKinds.find(each => each === kind);
  return known && typeof id === 'string' && typeof name === 'string' ? { kind: known, id, name } : undefined;
}
