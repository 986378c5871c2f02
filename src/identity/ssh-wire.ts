/**
 * The encoding inside OpenSSH keys (RFC 4251 §5): 4-byte big-endian lengths before strings. It checks bounds, not
 * meaning.
 */
import { createHash } from 'node:crypto';
import { RollcallError } from '../base/errors.js';

export interface SshReader {
  uint32(): number;
  string(): Buffer;
  /** The unread rest. */
  rest(): Buffer;
}

/** Reads in order; throws a RollcallError for a read past the end. */
export function createSshReader(bytes: Buffer): SshReader {
  let at = 0;
  function take(length: number): Buffer {
    if (length > bytes.length - at) throw new RollcallError('REQUEST_INVALID', 'malformed SSH data: cut off');
    at += length;
    return bytes.subarray(at - length, at);
  }
  const uint32 = () => take(4).readUInt32BE();
  return { uint32, string: () => take(uint32()), rest: () => bytes.subarray(at) };
}

export function sshUint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function sshString(value: Uint8Array | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
  return Buffer.concat([sshUint32(bytes.length), bytes]);
}

/** A non-negative number: minimal, with a zero byte before a set top bit. */
export function sshMpint(magnitude: Uint8Array): Buffer {
  const start = magnitude.findIndex(byte => byte !== 0);
  const minimal = start === -1 ? new Uint8Array() : magnitude.subarray(start);
  return sshString((minimal[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.alloc(1), minimal]) : minimal);
}

/** `SHA256:` and the unpadded base64 of the hash of a public-key blob, as `ssh-keygen -lf` shows it. */
export function sshFingerprint(blob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}
