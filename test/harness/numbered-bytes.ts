/** Bytes that differ from chunk to chunk and from seed to seed, and are the same each time. */
import { createCipheriv, createHash } from 'node:crypto';

export function numbered(length: number, seed = 0): Buffer {
  const key = createHash('sha256').update(`numbered ${seed}`).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}
