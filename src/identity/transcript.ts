/**
 * The bytes that both signatures of a proof cover. The encoding is written by hand, byte for byte, and is never
 * re-encoded protobuf: two programs that agree on the fields agree on the bytes. Every field, the label too, follows
 * its length as four bytes big-endian, so no two different sets of fields give the same bytes. Fields outside of the
 * transcript are advisory.
 *
 * docs/protocol.md says the same for other languages; vectors are in docs/vectors/transcript.json.
 */
import { RollcallError } from '../base/errors.js';
import { encodeFields } from './fields.js';

export const transcriptLabel = 'rollcall enroll v1';

export interface Transcript {
  /** The signing key: a signature by one is never valid as a signature by the other. */
  readonly role: 'node' | 'session';
  readonly trustDomain: string;
  readonly tenant: string;
  readonly bindingType: string;
  readonly binding: Uint8Array;
  readonly nonce: Uint8Array;
  /** SubjectPublicKeyInfo DER of the node key. */
  readonly nodeKey: Uint8Array;
  /** SubjectPublicKeyInfo DER of the session key. */
  readonly sessionKey: Uint8Array;
  /** The generation of the last certificate the node remembers, 0 without one; an unsigned 64-bit number. */
  readonly generation: bigint;
}

/** The bytes to sign. Text is UTF-8, the generation eight bytes big-endian. */
export function encodeTranscript(transcript: Transcript): Buffer {
  const { role, trustDomain, tenant, bindingType, binding, nonce, nodeKey, sessionKey } = transcript;
  requireUint64(transcript.generation);
  return encodeFields([
    transcriptLabel,
    role,
    trustDomain,
    tenant,
    bindingType,
    binding,
    nonce,
    nodeKey,
    sessionKey,
    transcript.generation,
  ]);
}

function requireUint64(generation: bigint): void {
  if (generation >= 0n && generation < 1n << 64n) return;
  throw new RollcallError('PROTOCOL_INVALID', 'the generation is not an unsigned 64-bit number');
}
