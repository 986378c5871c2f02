/**
 * Describes the failure of an app for its author: the error, and where in the app it was thrown. The message shows neither
 * our own files nor the folder of the app.
 */
import { inspect } from 'node:util';
import { isRollcallError } from '../../base/errors.js';
import { clipToBytes } from '../../base/text.js';
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
    if (isRollcallError(error)) return clip(error.message);
    if (!(error instanceof Error)) return clip(typeof error === 'string' ? error : inspect(error));
    return clip(error.message === '' ? error.name : `${error.name}: ${error.message}`);
  } catch {
    return 'an error that cannot be shown';
  }
}

export interface DescribeOptions {
  /** Stands before the error. */
  readonly prefix?: string;
  /** Defaults to the first line of the app in the stack. */
  readonly place?: string;
}

/** The same, with the place in the app, which is never cut off. `folder` is the absolute path of the app. */
export function describeFailure(
  error: unknown,
  folder: string,
  { prefix = '', place = placeOf(error, folder) }: DescribeOptions = {},
): string {
  const text = prefix + withoutFolder(describeError(error), folder);
  const end = place === '' || text.includes(place) ? '' : ` (${place})`;
  return clipToBytes(text, appLimits.maxFailureBytes - Buffer.byteLength(end)) + end;
}

/** Such as `lib/model.js:12:5`; empty when no line of the app is in the stack. */
export function placeOf(error: unknown, folder: string): string {
  try {
    const stack = error instanceof Error ? (error.stack ?? '') : '';
    for (const line of withoutMessage(stack, error).split('\n')) {
      const start = line.indexOf(`${folder}/`);
      const found = start < 0 ? null : /^(.*?:\d+(?::\d+)?)\)?$/.exec(line.slice(start + folder.length + 1));
      if (found?.[1] !== undefined) return decodeURI(found[1]);
    }
  } catch {
    // A getter of the error threw: there is no place.
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

function clip(text: string): string {
  return clipToBytes(text, appLimits.maxFailureBytes);
}
