/** A watch over nodes as an async iteration: begins when it is iterated, ends by a signal, or by the error that ended it. */
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { isRollcallError } from '../base/errors.js';
import type { Node, NodeEvent } from '../protocol/generated/rollcall/v1/control.js';
import { answerWithinMs, explainEnd, explainStart } from './grpc-failure.js';
import type { HttpTarget } from './http-target.js';
import { refusalOf, withToken, type TokenSource } from './tokens.js';

export interface WatchOptions {
  /** Every node once before the changes. */
  readonly snapshot?: boolean;
  /** Ends the iteration, without an error. */
  readonly signal?: AbortSignal;
  /** The link has said that the watch is on: from now on no change is missed. */
  readonly onOpen?: () => void;
}

type EventStream = ClientReadableStream<NodeEvent>;

export async function* watchNodes(
  open: (token: string) => EventStream,
  target: HttpTarget,
  tokens: TokenSource,
  { signal, onOpen }: WatchOptions,
): AsyncGenerator<Node, void, undefined> {
  let stream: EventStream | undefined;
  const stop = () => stream?.cancel();
  signal?.addEventListener('abort', stop);
  try {
    const nodes = await withToken(tokens, token => {
      signal?.throwIfAborted();
      stream = open(token);
      return begin(stream, target);
    });
    onOpen?.();
    yield* nodes;
  } catch (error) {
    if (signal?.aborted) return;
    throw isRollcallError(error, 'TOKEN_REFUSED') ? refusalOf(error, tokens) : error;
  } finally {
    signal?.removeEventListener('abort', stop);
    stop();
  }
}

/** Resolves when the link says that the watch is on. */
async function begin(stream: EventStream, target: HttpTarget): Promise<AsyncIterable<Node>> {
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
  return nodesOf(stream, () => explainEnd(failure, target));
}

async function* nodesOf(stream: EventStream, explain: () => Promise<Error>): AsyncGenerator<Node> {
  try {
    for await (const { node } of stream as AsyncIterable<NodeEvent>) if (node) yield node;
  } catch {
    // The listener has it.
  }
  throw await explain();
}
