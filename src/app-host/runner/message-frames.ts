/** Frames about messages, as a server half reads them. Pure. */
import type { GridProgress, MessageFailure } from '../../app/app.js';
import { isMessageErrorCode } from '../../app/message-error.js';
import { RollcallError } from '../../base/errors.js';
import type { Frame } from '../wire/frames.js';
import { parseObjectName, type ObjectName } from './objects.js';

/** Not decoded. */
export type RawAnswer = { readonly node: string } & (
  { readonly bytes: Buffer } | { readonly object: ObjectName } | { readonly error: MessageFailure }
);

export function parseAnswer({ value, body }: Frame): RawAnswer {
  const node = String(value['node']);
  if (value['error'] !== undefined) {
    const { code, message } = (value['error'] ?? {}) as Partial<Record<string, unknown>>;
    const known = typeof code === 'string' && isMessageErrorCode(code) ? code : 'APP_INVALID';
    return { node, error: { code: known, message: String(message) } };
  }
  return value['object'] === undefined
    ? { node, bytes: body }
    : { node, object: parseObjectName(value['object']) };
}

export function parseProgress(number: number, { value }: Frame): GridProgress {
  const { node, fraction, note } = value;
  return { message: number, node: String(node), fraction: Number(fraction), note: String(note) };
}

/** The number of the message that the frame is about. */
export function numberOf({ name, value }: Frame): number {
  const { number } = value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number > 0) return number;
  throw malformed(`a frame "${name}" has no number`);
}

export function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', what);
}
