/**
 * A checkpoint: the link's signed word that entry `seq` of a tenant's log had this hash. As each entry holds the hash
 * of the one before, it covers every entry up to that one. One that an operator keeps elsewhere shows later that
 * the log was cut or written anew, even by who holds the link's key.
 *
 * The signature is ES256 (ECDSA on P-256 with SHA-256, in DER) over bytes written by hand: every field, the label too,
 * has its length before it as four bytes big-endian; text is UTF-8, numbers are eight bytes big-endian, the hash is
 * its 32 bytes. The fields are `rollcall checkpoint v1`, trust domain, tenant, seq, hash, at, fingerprint of the key.
 */
import type { PrivateKey } from '../identity/private-key.js';
import type { PublicKey } from '../identity/public-key.js';
import { verifySignature } from '../identity/signature.js';
import { isHash, isRecord, isSeq } from './entry.js';

export interface Checkpoint {
  readonly version: 1;
  /** Names the link. */
  readonly trustDomain: string;
  readonly tenant: string;
  /** The entry it is of. */
  readonly seq: number;
  /** Of that entry, 64 hex digits. */
  readonly hash: string;
  /** When it was made, milliseconds since 1970. */
  readonly at: number;
  /** `SHA256:…` of the key that signed. */
  readonly keyFingerprint: string;
  /** ECDSA in DER, base64. */
  readonly signature: string;
}

export type CheckpointStatement = Pick<Checkpoint, 'trustDomain' | 'tenant' | 'seq' | 'hash' | 'at'>;

/** In DER on P-256 at most 72 bytes. */
const maxSignatureLength = 96;
const label = 'rollcall checkpoint v1';

/** The bytes that are signed. */
export function encodeStatement(statement: Omit<Checkpoint, 'signature' | 'version'>): Buffer {
  const { trustDomain, tenant, seq, hash, at, keyFingerprint } = statement;
  const fields = [
    Buffer.from(label),
    Buffer.from(trustDomain),
    Buffer.from(tenant),
    eightBytes(seq),
    Buffer.from(hash, 'hex'),
    eightBytes(at),
    Buffer.from(keyFingerprint),
  ];
  return Buffer.concat(fields.flatMap(field => [fourBytes(field.length), field]));
}

function fourBytes(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function eightBytes(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** Signs with a key on P-256. */
export function signCheckpoint(key: PrivateKey, statement: CheckpointStatement): Checkpoint {
  const { trustDomain, tenant, seq, hash, at } = statement;
  const signed = { trustDomain, tenant, seq, hash, at, keyFingerprint: key.publicKey.fingerprint };
  return { version: 1, ...signed, signature: key.sign(encodeStatement(signed)).toString('base64') };
}

/** Whether this key made it. Never rejects. */
export async function verifyCheckpoint(checkpoint: Checkpoint, key: PublicKey): Promise<boolean> {
  if (key.curve !== 'P-256' || checkpoint.keyFingerprint !== key.fingerprint) return false;
  return verifySignature(key, encodeStatement(checkpoint), Buffer.from(checkpoint.signature, 'base64'));
}

/** The one way a checkpoint is written, without a line end. */
export function encodeCheckpoint(checkpoint: Checkpoint): string {
  const { version, trustDomain, tenant, seq, hash, at, keyFingerprint, signature } = checkpoint;
  return JSON.stringify({ version, trustDomain, tenant, seq, hash, at, keyFingerprint, signature });
}

/** Text that has UTF-8 bytes of its own: a lone surrogate would be signed as another character. */
function isText(value: unknown): value is string {
  return typeof value === 'string' && !/\p{Cs}/u.test(value);
}

/** Base64 in its one spelling, of the length an ECDSA signature may have. */
function isSignature(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.length <= maxSignatureLength &&
    value !== '' &&
    Buffer.from(value, 'base64').toString('base64') === value
  );
}

/** The checkpoint in a value that JSON.parse gave, whatever else is in it; undefined when it is invalid. */
export function findCheckpoint(value: unknown): Checkpoint | undefined {
  if (!isRecord(value)) return undefined;
  const { version, trustDomain, tenant, seq, hash, at, keyFingerprint, signature } = value;
  if (version !== 1 || !isSeq(seq) || !isHash(hash)) return undefined;
  if (!Number.isSafeInteger(at) || (at as number) < 0) return undefined;
  if (!isText(trustDomain) || !isText(tenant) || !isText(keyFingerprint)) return undefined;
  if (!isSignature(signature)) return undefined;
  return { version, trustDomain, tenant, seq, hash, at: at as number, keyFingerprint, signature };
}
