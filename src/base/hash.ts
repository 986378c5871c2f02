/** SHA-256 (FIPS 180-4) of something that is there as a whole; what comes in pieces uses node:crypto. */
import { createHash } from 'node:crypto';

/** 64 lower-case hexadecimal digits. */
export function sha256Hex(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** 43 characters of base64url, without padding. */
export function sha256Base64url(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('base64url');
}
