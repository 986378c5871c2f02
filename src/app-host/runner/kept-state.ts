/** The state of a node half: what its handlers change, beside the bytes that were kept last. */
import { decodeContent, encodeContent, type Content } from '../../app/content.js';
import { appLimits } from '../../app/limits.js';
import { toRollcallError } from '../../base/errors.js';
import { HandlingError } from './failure.js';

/** Arrays of the state are never views of the kept bytes: a handler may write into its arrays. */
export class KeptState {
  #last: Buffer;
  #state: Record<string, Content[string]>;

  /** Empty bytes are an empty state. */
  constructor(bytes: Buffer) {
    this.#last = bytes.length > 0 ? bytes : encode({});
    this.#state = decodeCopy(this.#last);
  }

  /** For handlers to change. */
  get state(): Record<string, Content[string]> {
    return this.#state;
  }

  /** The bytes of the state, unless they are the kept ones. APP_INVALID when the state holds something that cannot be sent. */
  encode(): Buffer | undefined {
    const now = encode(this.#state);
    if (now.length > appLimits.maxStateBytes)
      throw new HandlingError(
        'APP_INVALID',
        `context.state holds more than ${appLimits.maxStateBytes} bytes`,
      );
    return now.equals(this.#last) ? undefined : now;
  }

  keep(bytes: Buffer | undefined): void {
    this.#last = bytes ?? this.#last;
  }

  /** Goes back to the state that was kept last. */
  undo(): void {
    this.#state = decodeCopy(this.#last);
  }
}

function encode(content: Content): Buffer {
  try {
    return Buffer.concat(encodeContent(content));
  } catch (error) {
    throw new HandlingError(
      'APP_INVALID',
      `what is left in context.state: ${toRollcallError(error).message}`,
    );
  }
}

function decodeCopy(bytes: Buffer): Record<string, Content[string]> {
  return { ...decodeContent(Uint8Array.from(bytes)) };
}
