/** The control service by promises; a refusal rejects with the RollcallError the link stated. */
import type { Metadata } from '@grpc/grpc-js';
import type {
  ControlClient,
  GetNodeRequest,
  ListNodeHistoryRequest,
  ListNodeHistoryResponse,
  ListNodesRequest,
  ListNodesResponse,
  Node,
  RegisterNodeRequest,
  DeleteNodeRequest,
  DeleteNodeResponse,
  RevokeNodeRequest,
  RevokeNodeResponse,
} from '../../src/protocol/generated/rollcall/v1/control.js';
import { fromGrpcStatus } from '../../src/protocol/status.js';

export type ControlCalls = ReturnType<typeof controlCalls>;

type Refusal = Parameters<typeof fromGrpcStatus>[0];
type Method<Q, A> = (
  request: Q,
  metadata: Metadata,
  callback: (error: Refusal | null, answer: A) => void,
) => unknown;

export function controlCalls(client: ControlClient, metadata: Metadata) {
  const promised =
    <Q, A>(method: Method<Q, A>) =>
    (request: Q): Promise<A> =>
      new Promise((resolve, reject) => {
        method(request, metadata, (error, answer) => {
          if (error) reject(fromGrpcStatus(error));
          else resolve(answer);
        });
      });
  return {
    client,
    metadata,
    close: () => client.close(),
    registerNode: promised<RegisterNodeRequest, Node>(client.registerNode.bind(client)),
    getNode: promised<GetNodeRequest, Node>(client.getNode.bind(client)),
    listNodes: promised<ListNodesRequest, ListNodesResponse>(client.listNodes.bind(client)),
    deleteNode: promised<DeleteNodeRequest, DeleteNodeResponse>(client.deleteNode.bind(client)),
    revokeNode: promised<RevokeNodeRequest, RevokeNodeResponse>(client.revokeNode.bind(client)),
    listNodeHistory: promised<ListNodeHistoryRequest, ListNodeHistoryResponse>(
      client.listNodeHistory.bind(client),
    ),
  };
}

export function statusName(node: Node): string {
  return ['', 'created', 'online', 'offline', 'revoked', 'pending', 'quarantined'][node.status] ?? '';
}

/** Asks until the node has the status. */
export async function untilStatus(
  control: Pick<ControlCalls, 'getNode'>,
  node: string,
  status: string,
): Promise<Node> {
  for (;;) {
    const found = await control.getNode({ node });
    if (statusName(found) === status) return found;
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

/** Every node, page by page. */
export async function listAll(control: Pick<ControlCalls, 'listNodes'>): Promise<Node[]> {
  const nodes: Node[] = [];
  let pageToken = '';
  do {
    const page = await control.listNodes({ statuses: [], labels: {}, text: '', pageSize: 1000, pageToken });
    nodes.push(...page.nodes);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return nodes;
}
