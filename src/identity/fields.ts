/**
 * Fields as bytes to sign or to hash: each follows its length as four bytes big-endian, so no two different lists of
 * fields give the same bytes. Text is UTF-8, numbers are eight bytes big-endian.
 */
export type Field = string | Uint8Array | bigint;

export function encodeFields(fields: readonly Field[]): Buffer {
  return Buffer.concat(fields.flatMap(withLength));
}

function withLength(field: Field): Uint8Array[] {
  const bytes = bytesOf(field);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return [length, bytes];
}

function bytesOf(field: Field): Uint8Array {
  if (typeof field === 'string') return Buffer.from(field, 'utf8');
  if (typeof field !== 'bigint') return field;
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(field);
  return bytes;
}
