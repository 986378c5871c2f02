/** A watch over nodes as an async iteration: begins when it is iterated, ends by a signal, or by the error that ended it. */
import type { ClientReadableStream } from '@grpc/grpc-js';
import type { Node, NodeEvent } from '../protocol/generated/rollcall/v1/control.js';
import { readEvents } from './event-stream.js';
import { explainEnd } from './grpc-failure.js';
import type { HttpTarget } from './http-target.js';
import type { TokenSource } from './tokens.js';

export interface WatchOptions {
  /** Every node once before the changes. */
  readonly snapshot?: boolean;
  /** Ends the iteration, without an error. */
  readonly signal?: AbortSignal;
  /** The link has said that the watch is on: from now on no change is missed. */
  readonly onOpen?: () => void;
}

export async function* watchNodes(
  open: (token: string) => ClientReadableStream<NodeEvent>,
  target: HttpTarget,
  tokens: TokenSource,
  { signal, onOpen }: WatchOptions,
): AsyncGenerator<Node, void, undefined> {
  for await (const { node } of readEvents(open, target, tokens, { signal, onOpen })) if (node) yield node;
  // A watch is never over by itself.
  if (!signal?.aborted) throw await explainEnd(undefined, target);
}
