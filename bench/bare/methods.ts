/** The services of the bare server for nodes: the messages of the node port, over gRPC. */
import type { MethodDefinition } from '@grpc/grpc-js';
import { LinkFrame, NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';

export const paths = {
  enroll: '/rollcall.bench.Node/Enroll',
  connect: '/rollcall.bench.Node/Connect',
  read: '/rollcall.bench.Node/Read',
} as const;

/** NodeFrames one way, LinkFrames the other. */
function method(path: string, requestStream: boolean): MethodDefinition<NodeFrame, LinkFrame> {
  return {
    path,
    requestStream,
    responseStream: true,
    requestSerialize: frame => Buffer.from(NodeFrame.encode(frame).finish()),
    requestDeserialize: bytes => NodeFrame.decode(bytes),
    responseSerialize: frame => Buffer.from(LinkFrame.encode(frame).finish()),
    responseDeserialize: bytes => LinkFrame.decode(bytes),
  };
}

export const enrollService = { enroll: method(paths.enroll, true) };
export const nodeService = { connect: method(paths.connect, true), read: method(paths.read, false) };
