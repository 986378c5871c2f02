/**
 * Serial numbers: random, so that two authorities with one name cannot meet on a number and nobody can guess the next
 * (CA/Browser Forum asks for 64 random bits; we take 128).
 */
import type { Random } from '../../base/random.js';

const serialBytes = 16;

/** 128 random bits as a positive DER integer of at most 17 octets. */
export function createSerial(random: Random): Buffer {
  return positiveInteger(random(serialBytes));
}

/** The shortest DER content of an unsigned number; zero, which RFC 5280 forbids as a serial, becomes one. */
export function positiveInteger(magnitude: Uint8Array): Buffer {
  const start = magnitude.findIndex(octet => octet !== 0);
  if (start < 0) return Buffer.of(1);
  const shortest = magnitude.subarray(start);
  const signed = ((shortest[0] ?? 0) & 0x80) !== 0;
  return Buffer.concat([Buffer.alloc(signed ? 1 : 0), shortest]);
}

/** Lower-case hex without the sign octet: what X509Certificate.serialNumber shows, in lower case. */
export function formatSerial(serial: Uint8Array): string {
  return Buffer.from(serial.length > 1 && serial[0] === 0 ? serial.subarray(1) : serial).toString('hex');
}
