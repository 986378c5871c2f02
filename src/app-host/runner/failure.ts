/**
 * What went wrong in an app, in words that its author can use: the error, and where in the app it was thrown. Our own
 * files and the folder the app happens to lie in are nobody's business.
 */
import { inspect } from 'node:util';
import { isRollcallError } from '../../base/errors.js';
import { appLimits } from '../../app/limits.js';
import type { MessageErrorCode } from '../../app/message-error.js';

/** The error that the agent receives instead of an answer. */
export class HandlingError extends Error {
  readonly code: MessageErrorCode;

  constructor(code: MessageErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** `name: message`, at most 4 KiB. Never throws, whatever was thrown. */
export function describeError(error: unknown): string {
  try {
    if (isRollcallError(error)) return clipBytes(error.message);
    if (!(error instanceof Error)) return clipBytes(typeof error === 'string' ? error : inspect(error));
    return clipBytes(error.message === '' ? error.name : `${error.name}: ${error.message}`);
  } catch {
    return 'an error that cannot be shown';
  }
}

/** The same, with the first line of the app that had a part in it. `folder`: where the app lies, absolute. */
export function describeFailure(error: unknown, folder: string): string {
  const place = placeOf(error, folder);
  const text = withoutFolder(describeError(error), folder);
  return clipBytes(place === '' || text.includes(place) ? text : `${text} (${place})`);
}

/** Such as `lib/model.js:12:5`; empty when it is nowhere in the app. */
export function placeOf(error: unknown, folder: string): string {
  try {
    const stack = error instanceof Error ? (error.stack ?? '') : '';
    for (const line of withoutMessage(stack, error).split('\n')) {
      const start = line.indexOf(`${folder}/`);
      const found = start < 0 ? null : /^(.*?:\d+(?::\d+)?)\)?$/.exec(line.slice(start + folder.length + 1));
      if (found?.[1] !== undefined) return decodeURI(found[1]);
    }
  } catch {
    // Then nowhere.
  }
  return '';
}

/** Lines of the message could look like lines of the stack. */
function withoutMessage(stack: string, error: unknown): string {
  const message = error instanceof Error ? error.message : '';
  return message === '' ? stack : stack.replace(message, () => '');
}

function withoutFolder(text: string, folder: string): string {
  return text.replaceAll(`file://${folder}/`, '').replaceAll(`${folder}/`, '');
}

/** Cut between two characters. */
export function clipBytes(text: string, max: number = appLimits.maxFailureBytes): string {
  const bytes = Buffer.from(text.slice(0, max));
  if (bytes.length <= max) return text.slice(0, max);
  return new TextDecoder().decode(bytes.subarray(0, max), { stream: true });
}
