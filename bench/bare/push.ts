/**
 * The protocol of a sender with the bare server: one stream, over a Unix socket and without TLS, as the runner of a
 * server half speaks with the link. `run` of a message is the node it is for; its reply comes back unchanged.
 */
import type { MethodDefinition } from '@grpc/grpc-js';
import { LinkFrame, NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';

export const pushMethod: MethodDefinition<LinkFrame, NodeFrame> = {
  path: '/rollcall.bench.Push/Push',
  requestStream: true,
  responseStream: true,
  requestSerialize: frame => Buffer.from(LinkFrame.encode(frame).finish()),
  requestDeserialize: bytes => LinkFrame.decode(bytes),
  responseSerialize: frame => Buffer.from(NodeFrame.encode(frame).finish()),
  responseDeserialize: bytes => NodeFrame.decode(bytes),
};

/** The offset of an object's size in its digest: a bare server keeps no objects, and makes them of zeros. */
export function bareDigest(sizeBytes: number): Buffer {
  const digest = Buffer.alloc(32);
  digest.writeBigUInt64BE(BigInt(sizeBytes));
  return digest;
}

export interface SenderPlan {
  readonly socket: string;
  readonly nodes: readonly string[];
  /** The settings of the server half. */
  readonly config: Readonly<Record<string, string | number>>;
}

export type SenderAnswer = { readonly result: unknown } | { readonly error: string };
