import { createHash } from 'node:crypto';

/** SHA-256 of a runner's token, hex: what may be stored of it. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
