/** SHA-256 of a runner's token, hex: what may be stored of it. */
import { sha256Hex } from '../../base/hash.js';
export function hashToken(token: string): string {
  return sha256Hex(token);
}
