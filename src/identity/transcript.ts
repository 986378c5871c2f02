/**
 * What both signatures of a proof cover. It is written by hand, byte for byte, and never re-encoded protobuf: two
 * programs that agree on the fields agree on the bytes. Every field, the label too, has its length before it as four
 * bytes big-endian, so no two different sets of fields give the same bytes. Anything that is not in here is advisory.
 *
 * docs/protocol.md says the same for other languages; vectors are in docs/vectors/transcript.json.
 */
import { RollcallError } from '../base/errors.js';
import { encodeFields } from './fields.js';

export const transcriptLabel = 'rollcall enroll v1';

export interface Transcript {
  /** Which of the two keys signs; the same fields signed by the one never pass for the other. */
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
  /** Of the last certificate the node remembers, 0 for none; an unsigned 64-bit number. */
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
