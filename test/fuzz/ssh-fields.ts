/** Data in OpenSSH's encoding as a list of fields that can be changed one by one, lengths included. */
import { changeBytes, pick, type Step } from './bytes.js';

export interface SshField {
  readonly bytes: Buffer;
  /** Strings have their length before them; numbers and padding have not. */
  readonly isString: boolean;
  /** Instead of the true length. */
  readonly length?: number;
}

export const stringField = (value: string | Uint8Array): SshField => ({
  bytes: Buffer.from(value),
  isString: true,
});
export const rawField = (bytes: Uint8Array): SshField => ({ bytes: Buffer.from(bytes), isString: false });
export const numberField = (value: number): SshField => rawField(bigEndian(value));

function bigEndian(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** As many strings as there are; what is left over is a raw field. */
export function readFields(bytes: Buffer): SshField[] {
  const fields: SshField[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = at + 4 <= bytes.length ? bytes.readUInt32BE(at) : Infinity;
    if (length > bytes.length - at - 4) return [...fields, rawField(bytes.subarray(at))];
    fields.push(stringField(bytes.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return fields;
}

export function writeFields(fields: readonly SshField[]): Buffer {
  return Buffer.concat(
    fields.flatMap(({ bytes, isString, length }) =>
      isString ? [bigEndian(length ?? bytes.length), bytes] : [bytes],
    ),
  );
}

const strangers = [
  stringField(''),
  stringField('ecdsa-sha2-nistp256'),
  stringField('ecdsa-sha2-nistp384'),
  stringField('nistp256'),
  stringField('nistp384'),
  stringField('ssh-rsa'),
  stringField('sk-ecdsa-sha2-nistp256@openssh.com'),
  stringField('none'),
  stringField('aes256-ctr'),
  stringField('bcrypt'),
  stringField(Buffer.of(0)),
  stringField(Buffer.alloc(65, 4)),
  stringField(Buffer.alloc(4000, 0xff)),
  numberField(0),
  numberField(1),
  numberField(2),
  numberField(0xffffffff),
];

type Change = (fields: SshField[], at: number, value: number) => void;

const changes: readonly Change[] = [
  (fields, at) => void fields.splice(at, 1),
  (fields, at) => void fields.splice(at, 0, fields[at] ?? numberField(0)),
  (fields, at, value) => void fields.splice(at, 1, pick(strangers, value)),
  (fields, at, value) => void fields.splice(at, 0, pick(strangers, value)),
  changeField((field, value) => ({ ...field, length: pick([0, 1, 0x7fffffff, 0xffffffff], value) })),
  changeField((field, value) => ({ ...field, length: Math.max(0, field.bytes.length + (value % 9) - 4) })),
  // A number that is longer or shorter than its field.
  changeField((field, value) => ({
    ...field,
    bytes: Buffer.concat([Buffer.alloc(value % 40), field.bytes]),
  })),
  changeField((field, value) => ({ ...field, bytes: field.bytes.subarray(value % 3) })),
  ...Array.from({ length: 6 }, () =>
    changeField((field, value) => {
      const step = { kind: value >> 3, at: value >> 7, value: value >> 5 };
      return { ...field, bytes: changeBytes(field.bytes, [step]) };
    }),
  ),
];

function changeField(change: (field: SshField, value: number) => SshField): Change {
  return (fields, at, value) => {
    const field = fields[at];
    if (field) fields[at] = change(field, value);
  };
}

/** The fields after the steps. */
export function changeFields(fields: readonly SshField[], list: readonly Step[]): SshField[] {
  const changed = [...fields];
  for (const { kind, at, value } of list) pick(changes, kind)(changed, at % (changed.length + 1), value);
  return changed;
}
