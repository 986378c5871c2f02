/** A message in work at a runner, and its caller, who waits for the answer. */
import type { Timer } from '../../base/clock.js';
import { deferred, onAbort } from '../../base/wait.js';
import type { RunnerExit } from '../../app-host/hosting/hosting.js';
import type { Manifest } from '../../objects/manifest.js';
import type { ObjectBucket } from '../../objects/object-store.js';
import type { Answer } from './journal.js';

export interface RunnerMessage {
  readonly number: number;
  readonly type: string;
  readonly group: string;
  readonly attempt: number;
  readonly createdAt: number;
  readonly content: Uint8Array | { readonly manifest: Manifest; readonly bucket: ObjectBucket };
}

export type RunnerAnswer =
  /** `state`: what the handler left, when that has changed. */
  | { readonly kind: 'answer'; readonly answer: Answer; readonly state?: Uint8Array | undefined }
  | { readonly kind: 'exited'; readonly exit: RunnerExit };

export class HandlerCall {
  readonly message: RunnerMessage;
  readonly #answer = deferred<RunnerAnswer>();
  #deadline: Timer | undefined;
  #stopListening = (): void => undefined;

  constructor(message: RunnerMessage) {
    this.message = message;
  }

  get answer(): Promise<RunnerAnswer> {
    return this.#answer.promise;
  }

  /** The deadline replaces the one before. */
  setDeadline(deadline: Timer): void {
    this.#deadline?.cancel();
    this.#deadline = deadline;
  }

  onCancel(signal: AbortSignal, cancel: () => void): void {
    this.#stopListening = onAbort(signal, cancel);
  }

  /** The content of the message, when it is this object: nothing else may be read by the runner. */
  findObject(digest: string): { readonly manifest: Manifest; readonly bucket: ObjectBucket } | undefined {
    const { content } = this.message;
    return content instanceof Uint8Array || content.manifest.digest !== digest ? undefined : content;
  }

  settle(answer: RunnerAnswer): void {
    this.#deadline?.cancel();
    this.#stopListening();
    this.#answer.resolve(answer);
  }
}
