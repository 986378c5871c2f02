/** `rollcall.v1.Control`: thin translations of src/link/control.ts. The guard has settled who asks already. */
import { Metadata, type ServerWritableStream } from '@grpc/grpc-js';
import { RollcallError } from '../../../base/errors.js';
import type { Clock } from '../../../base/clock.js';
import type { Log } from '../../../base/log.js';
import type {
  ControlServer,
  NodeEvent,
  WatchNodesRequest,
} from '../../../protocol/generated/rollcall/v1/control.js';
import { may, notAllowed } from '../../access/principal.js';
import type { Control } from '../../control.js';
import type { NodeRecord } from '../../registry/node-record.js';
import { endCall } from './call-end.js';
import { statusOf, toNode, toTransition } from './control-codec.js';
import type { GrpcDoor } from './grpc-door.js';
import { recheckCall } from './lasting-call.js';
import { waitForReader } from './reader-pace.js';
import { createUnary } from './unary.js';

/** Events waiting for a watcher that does not read; beyond this it is cut off. */
const longestQueue = 10_000;

export interface ControlDoorOptions {
  readonly control: Control;
  readonly door: Pick<GrpcDoor, 'principalOf' | 'recheck'>;
  readonly clock: Clock;
  readonly log: Log;
}

export function createControlDoor({ control, door, clock, log }: ControlDoorOptions): ControlServer {
  const unary = createUnary({ door, log, what: 'a control request' });
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
      const {
        node: record,
        sessionsEnded,
        closedAfterMs,
      } = await control.revokeNode(principal, node, comment);
      return { node: toNode(record), sessionsEnded, closedAfterUs: BigInt(Math.round(closedAfterMs * 1000)) };
    }),
    watchNodes: call => void watch(call).catch((error: unknown) => endCall(call, error)),
  };

  /** The changes first, so that none falls between them and the snapshot. */
  async function watch(call: ServerWritableStream<WatchNodesRequest, NodeEvent>): Promise<void> {
    const principal = door.principalOf(call);
    const send = (node: NodeRecord): void => {
      if (call.destroyed || call.writableEnded) return;
      if (call.writableLength > longestQueue) {
        endCall(call, new RollcallError('LINK_BUSY', 'the watcher does not keep up'));
      } else call.write({ node: toNode(node) });
    };
    // What has changed since a page was read is newer than the page.
    const changed = new Set<bigint>();
    let isListing = call.request.snapshot;
    const stop = control.watchNodes(principal, node => {
      if (isListing) changed.add(node.id);
      send(node);
    });
    const checking = recheckCall(call, {
      door,
      clock,
      check: now => {
        if (may(principal, 'nodes:read') && !may(now, 'nodes:read')) throw notAllowed('nodes:read');
      },
    });
    call.on('cancelled', () => {
      checking.cancel();
      stop();
    });
    // Says at once that the watch is on, also when nothing changes for hours.
    call.sendMetadata(new Metadata());
    if (!call.request.snapshot) return;
    let pageToken = '';
    do {
      const page = await control.listNodes(principal, pageOf(1000, pageToken));
      page.nodes.filter(({ id }) => !changed.has(id)).forEach(send);
      await waitForReader(call);
      pageToken = page.nextPageToken;
    } while (pageToken !== '' && !call.cancelled);
    isListing = false;
    changed.clear();
  }
}

function pageOf(pageSize: number, pageToken: string): { pageSize?: number; pageToken?: string } {
  return { ...(pageSize > 0 && { pageSize }), ...(pageToken !== '' && { pageToken }) };
}
