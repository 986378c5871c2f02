/** `rollcall.v1.Control`: thin translations of src/link/control.ts. The guard has settled who asks already. */
import { Metadata, type ServerWritableStream } from '@grpc/grpc-js';
import type { Clock } from '../../../base/clock.js';
import type { Log } from '../../../base/log.js';
import type {
  ControlServer,
  NodeEvent,
  WatchNodesRequest,
} from '../../../protocol/generated/rollcall/v1/control.js';
import type { Control } from '../../control.js';
import { endCall } from './call-end.js';
import { logFault } from '../public-error.js';
import { statusOf, toNode, toTransition } from './control-codec.js';
import type { GrpcDoor } from './grpc-door.js';
import { NodeWatch } from './node-watch.js';
import { ReaderPace } from './reader-pace.js';
import { createUnary } from './unary.js';

export interface ControlDoorOptions {
  readonly control: Control;
  readonly door: Pick<GrpcDoor, 'principalOf' | 'hold'>;
  readonly clock: Clock;
  readonly log: Log;
}

const what = 'a control request';

export function createControlDoor({ control, door, clock, log }: ControlDoorOptions): ControlServer {
  const unary = createUnary({ door, log, what });
  return {
    registerNode: unary(async (request, principal) => toNode(await control.registerNode(principal, request))),
    getNode: unary(async ({ node }, principal) => toNode(await control.getNode(principal, node))),
    listNodes: unary(async ({ statuses, labels, text, pageSize, pageToken }, principal) => {
      const page = await control.listNodes(principal, {
        statuses: statuses.map(statusOf),
        labels,
        text,
        ...pageOf(pageSize, pageToken),
      });
      return { nodes: page.nodes.map(toNode), nextPageToken: page.nextPageToken };
    }),
    listNodeHistory: unary(async ({ node, pageSize, pageToken }, principal) => {
      const page = await control.listHistory(principal, node, pageOf(pageSize, pageToken));
      return { transitions: page.transitions.map(toTransition), nextPageToken: page.nextPageToken };
    }),
    revokeNode: unary(async ({ node, comment }, principal) => {
      const { node: record, closedAfterMs, ...ended } = await control.revokeNode(principal, node, comment);
      return { node: toNode(record), ...ended, closedAfterUs: BigInt(Math.round(closedAfterMs * 1000)) };
    }),
    deleteNode: unary(async (request, principal) => {
      const { node, sessionsEnded } = await control.deleteNode(principal, request.node);
      return { node: toNode(node), sessionsEnded };
    }),
    watchNodes(call) {
      try {
        watch(call);
      } catch (error) {
        endCall(call, error);
      }
    },
  };

  function watch(call: ServerWritableStream<WatchNodesRequest, NodeEvent>): void {
    const principal = door.principalOf(call);
    const reader = new ReaderPace(call, clock);
    const end = (error: unknown): void => {
      logFault(log, error, what);
      endCall(call, error);
    };
    const watch = new NodeWatch({ control, reader, principal, onFailure: end });
    // The changes first, so that none falls between them and the telling of all.
    const stop = control.watchNodes(principal, node => watch.changed(node));
    call.on('cancelled', stop);
    door.hold(call, now => control.requireWatch(now, principal), end);
    // Says at once that the watch is on, also when nothing changes for hours.
    call.sendMetadata(new Metadata());
    if (call.request.snapshot) watch.tellAll();
  }
}

function pageOf(pageSize: number, pageToken: string): { pageSize?: number; pageToken?: string } {
  return { ...(pageSize > 0 && { pageSize }), ...(pageToken !== '' && { pageToken }) };
}
