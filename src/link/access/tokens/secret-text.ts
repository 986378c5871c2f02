/** Secrets that are handed out as text: what is kept of one, and how one that comes back is compared. */
import { timingSafeEqual } from 'node:crypto';
import { sha256Hex } from '../../../base/hash.js';

/** SHA-256, hex. For what is random and long, or guessed at slowly: passwords want a slow hash. */
export function hashSecret(secret: string): string {
  return sha256Hex(secret);
}

/** In constant time for texts of one length. */
export function isSameText(one: string, other: string): boolean {
  const [bytes, otherBytes] = [Buffer.from(one), Buffer.from(other)];
  return bytes.length === otherBytes.length && timingSafeEqual(bytes, otherBytes);
}
