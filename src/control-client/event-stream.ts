/**
 * Events of the link as they happen, as an async iteration: begins when it is iterated, ends by a signal, by the link saying that
 * all was told, or by the error that ended it.
 */
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { isRollcallError } from '../base/errors.js';
import { onAbort } from '../base/wait.js';
import { answerWithinMs, explainEnd, explainStart } from './grpc-failure.js';
import type { HttpTarget } from './http-target.js';
import { refusalOf, withToken, type TokenSource } from './tokens.js';

export interface StreamOptions {
  /** Ends the iteration, without an error. */
  readonly signal?: AbortSignal | undefined;
  /** The link has said that the stream is on. */
  readonly onOpen?: (() => void) | undefined;
}

/** `open` begins the call; it is ended when nobody iterates any more. */
export async function* readEvents<E>(
  open: (token: string) => ClientReadableStream<E>,
  target: HttpTarget,
  tokens: TokenSource,
  { signal, onOpen }: StreamOptions,
): AsyncGenerator<E, void, undefined> {
  let stream: ClientReadableStream<E> | undefined;
  const stop = () => stream?.cancel();
  const forget = onAbort(signal, stop);
  try {
    const events = await withToken(tokens, token => {
      signal?.throwIfAborted();
      stream = open(token);
      return begin(stream, target);
    });
    onOpen?.();
    yield* events;
  } catch (error) {
    if (signal?.aborted) return;
    throw isRollcallError(error, 'TOKEN_REFUSED') ? refusalOf(error, tokens) : error;
  } finally {
    forget();
    stop();
  }
}

/** Resolves when the link says that the stream is on. */
async function begin<E>(stream: ClientReadableStream<E>, target: HttpTarget): Promise<AsyncIterable<E>> {
  let failure: ServiceError | undefined;
  // It may come at any time: also before somebody reads, and after they have stopped.
  stream.on('error', (error: ServiceError) => (failure = error));
  const impatience = setTimeout(() => stream.cancel(), answerWithinMs);
  const isOn = await new Promise<boolean>(resolve => {
    stream.once('metadata', () => resolve(true));
    stream.once('error', () => resolve(false));
    stream.once('status', () => resolve(false));
  });
  clearTimeout(impatience);
  if (!isOn) throw await explainStart(failure, target);
  return eventsOf(stream, isCut => (isCut || failure ? explainEnd(failure, target) : undefined));
}

async function* eventsOf<E>(
  stream: ClientReadableStream<E>,
  explain: (isCut: boolean) => Promise<Error> | undefined,
): AsyncGenerator<E> {
  let isCut = false;
  try {
    yield* stream as AsyncIterable<E>;
  } catch {
    // Why is what the listener has heard.
    isCut = true;
  }
  const why = explain(isCut);
  if (why) throw await why;
}
