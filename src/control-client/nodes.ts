/**
 * Asks the link about nodes, over gRPC. Every failure comes out as one error that says what to do.
 */
import type { ClientReadableStream } from '@grpc/grpc-js';
import { RollcallError } from '../base/errors.js';
import {
  ControlClient as GrpcClient,
  type GetNodeRequest,
  type ListNodeHistoryRequest,
  type ListNodeHistoryResponse,
  type ListNodesRequest,
  type ListNodesResponse,
  type Node,
  type NodeStatus,
  type RegisterNodeRequest,
  type DeleteNodeRequest,
  type DeleteNodeResponse,
  type RevokeNodeRequest,
  type RevokeNodeResponse,
  type Transition,
  type NodeEvent,
} from '../protocol/generated/rollcall/v1/control.js';
import { bearer, createAsking, openGrpcClient } from './grpc-client.js';
import type { HttpTarget } from './http-target.js';
import { everyItem, wholePage, type PageRequest } from './pages.js';
import type { TokenSource } from './tokens.js';
import { readEvents } from './event-stream.js';
import { explainEnd } from './grpc-failure.js';

export type { PageRequest } from './pages.js';

/** Which nodes are meant; what is left out is not asked about. */
export interface NodeFilter {
  /** Any of these. */
  readonly statuses?: readonly NodeStatus[];
  /** Every pair must be on the node. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Part of the name, the id, the fingerprint or a label; case does not matter. */
  readonly text?: string;
}

export interface NewNode {
  /** Text as ssh-keygen or openssl write it (OpenSSH line or PEM), or SubjectPublicKeyInfo in DER. P-256 or P-384. */
  readonly publicKey: string | Uint8Array;
  /** Unique in the tenant; none by default. */
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Register a revoked key again, as a new node. */
  readonly again?: boolean;
}

/**
 * A node: its `id`, its name, or its fingerprint; where it is only looked at, text may be a beginning that no other node has. NODE_NOT_FOUND for one that is not there; NOT_ALLOWED, there or not, for who
 * may see only its own.
 */
export type NodeReference = string | bigint;

export interface Nodes {
  /** Every node that is meant, asked for page by page as the iteration goes. */
  list(filter?: NodeFilter): AsyncGenerator<Node, void, undefined>;
  /** One page; `nextPageToken` is empty on the last. */
  listPage(request: NodeFilter & PageRequest): Promise<ListNodesResponse>;
  get(node: NodeReference): Promise<Node>;
  /** NODE_ALREADY_REGISTERED, NODE_NAME_TAKEN; KEY_UNSUPPORTED for text that is no public key of a node. */
  register(node: NewNode): Promise<Node>;
  /** Ends what the node may do and every session it has, before it answers. `comment` is kept in the history. */
  revoke(node: NodeReference, comment?: string): Promise<RevokeNodeResponse>;
  /** Revokes it where that was not done, and forgets it but for the audit log: its key and its name are free. */
  delete(node: NodeReference): Promise<DeleteNodeResponse>;
  /** Its changes of status, newest first. */
  history(node: NodeReference): AsyncGenerator<Transition, void, undefined>;
  historyPage(node: NodeReference, request?: PageRequest): Promise<ListNodeHistoryResponse>;
  /**
   * Every node as it is after each change, from when the iteration begins. Ends when `signal` is aborted; throws
   * LINK_UNREACHABLE when the link goes away and TOKEN_REFUSED when the token ends: watch again, with `snapshot` to
   * learn what happened in between.
   */
  watch(options?: WatchOptions): AsyncGenerator<Node, void, undefined>;
}

export interface OpenNodes extends Nodes {
  /** Watches end as by their signal. */
  close(): void;
}

/** Nothing is sent before the first call. */
export function openNodes(target: HttpTarget, tokens: TokenSource): OpenNodes {
  const client = openGrpcClient(GrpcClient, target);
  const closing = new AbortController();
  const asking = createAsking(target, tokens);

  const calls = {
    register: asking<RegisterNodeRequest, Node>(client.registerNode.bind(client)),
    get: asking<GetNodeRequest, Node>(client.getNode.bind(client)),
    list: asking<ListNodesRequest, ListNodesResponse>(client.listNodes.bind(client)),
    revoke: asking<RevokeNodeRequest, RevokeNodeResponse>(client.revokeNode.bind(client)),
    delete: asking<DeleteNodeRequest, DeleteNodeResponse>(client.deleteNode.bind(client)),
    history: asking<ListNodeHistoryRequest, ListNodeHistoryResponse>(client.listNodeHistory.bind(client)),
  };

  const listPage: Nodes['listPage'] = ({ statuses = [], labels = {}, text = '', ...page }) =>
    calls.list({ statuses: [...statuses], labels: { ...labels }, text, ...wholePage(page) });
  const historyPage: Nodes['historyPage'] = (node, page = {}) =>
    calls.history({ node: `${node}`, ...wholePage(page) });

  return {
    listPage,
    list: filter =>
      everyItem(async page => {
        const { nodes, nextPageToken } = await listPage({ ...filter, ...page });
        return { items: nodes, nextPageToken };
      }),
    async get(node) {
      const found = await calls.get({ node: `${node}` });
      // Text may be the beginning of an id, a number is all of it.
      if (typeof node !== 'bigint' || found.id === node) return found;
      throw new RollcallError('NODE_NOT_FOUND', `there is no node ${node}`);
    },
    register: async ({ publicKey, name = '', labels = {}, again = false }) =>
      calls.register({ publicKey: await readSpki(publicKey), name, labels: { ...labels }, again }),
    revoke: (node, comment = '') => calls.revoke({ node: `${node}`, comment }),
    delete: node => calls.delete({ node: `${node}` }),
    historyPage,
    history: node =>
      everyItem(async page => {
        const { transitions, nextPageToken } = await historyPage(node, page);
        return { items: transitions, nextPageToken };
      }),
    watch: (options = {}) => {
      const { snapshot = false, signal } = options;
      const open = (token: string) => client.watchNodes({ snapshot }, bearer(token));
      const ending = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal;
      return watchNodes(open, target, tokens, { ...options, signal: ending });
    },
    close() {
      closing.abort();
      client.close();
    },
  };
}

async function readSpki(key: string | Uint8Array): Promise<Buffer> {
  if (typeof key !== 'string') return Buffer.from(key);
  const { readPublicKey } = await import('../identity/key-file.js');
  return readPublicKey(Buffer.from(key)).spki;
}

export interface WatchOptions {
  /** Every node once before the changes. */
  readonly snapshot?: boolean;
  /** Ends the iteration, without an error. */
  readonly signal?: AbortSignal;
  /** The link has said that the watch is on: from now on no change is missed. */
  readonly onOpen?: () => void;
}

async function* watchNodes(
  open: (token: string) => ClientReadableStream<NodeEvent>,
  target: HttpTarget,
  tokens: TokenSource,
  { signal, onOpen }: WatchOptions,
): AsyncGenerator<Node, void, undefined> {
  for await (const { node } of readEvents(open, target, tokens, { signal, onOpen })) if (node) yield node;
  // A watch is never over by itself.
  if (!signal?.aborted) throw await explainEnd(undefined, target);
}
