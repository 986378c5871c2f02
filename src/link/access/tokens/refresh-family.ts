/**
 * A session, as a family of refresh tokens: what is kept of it, when it is over, and what the use of one of its tokens
 * is. Pure; refresh-families.ts keeps it.
 */
import { hashSecret, isSameText } from './secret-text.js';

export interface Family {
  /** 32 hex digits; `sid` in its access tokens. */
  readonly id: string;
  readonly tenant: string;
  /** `user:…` or `node:…`. */
  readonly holder: string;
  /** The audience of its access tokens. */
  readonly audience: string;
  /** The program that logged in; undefined in sessions from before this was kept, and for nodes. */
  readonly client?: string | undefined;
  /** The scope that the holder asked for; undefined for everything. */
  readonly scope?: string | undefined;
  readonly createdAt: number;
  readonly usedAt: number;
  readonly rotations: number;
  /** SHA-256 of the tokens, hex. */
  readonly current: string;
  readonly previous?: string | undefined;
}

/** A caller that lost the answer asks again within this, ms. */
export const retryWithinMs = 10_000;
/** Without use, and altogether, ms. */
export const idleMs = 7 * 86_400_000;
export const absoluteMs = 30 * 86_400_000;

export interface Presented {
  readonly token: string;
  /** When the request came in, however long the store then took. */
  readonly askedAt: number;
  /** When the rotation that this very token asked for could be answered; 0 when it asked for none lately. */
  readonly answeredAt: number;
}

/** Classifies the use of a token that the link issued for this family. */
export function judgeUse(
  family: Family,
  { token, askedAt, answeredAt }: Presented,
  now: number,
): 'over' | 'current' | 'retry' | 'reused' {
  if (isOver(family, now)) return 'over';
  const presented = hashSecret(token);
  if (isSameText(presented, family.current)) return 'current';
  const isLast = isSameText(presented, family.previous ?? '');
  return isLast && askedAt - Math.max(family.usedAt, answeredAt) <= retryWithinMs ? 'retry' : 'reused';
}

export function isOver({ createdAt, usedAt }: Family, now: number): boolean {
  return now - usedAt > idleMs || now - createdAt > absoluteMs;
}
