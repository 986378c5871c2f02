/**
 * Asks the link about nodes: gRPC over TLS 1.3, verified against the given roots and the host that was named, with the
 * token in every call. Every failure comes out as one error that says what to do.
 */
import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import {
  credentials,
  Metadata,
  type CallOptions,
  type ChannelCredentials,
  type ChannelOptions,
  type ClientUnaryCall,
  type ServiceError,
} from '@grpc/grpc-js';
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
  type RevokeNodeRequest,
  type RevokeNodeResponse,
  type Transition,
} from '../protocol/generated/rollcall/v1/control.js';
import { answerWithinMs, explain } from './grpc-failure.js';
import type { HttpTarget } from './http-target.js';
import { watchNodes, type WatchOptions } from './node-watch.js';
import { withToken, type TokenSource } from './tokens.js';

/** The most nodes or transitions that the link gives at once. */
const largestPage = 1000;
/** A page of a thousand nodes with many labels fits well. */
const largestAnswerBytes = 64 * 1024 * 1024;

/** Which nodes are meant; what is left out is not asked about. */
export interface NodeFilter {
  /** Any of these. */
  readonly statuses?: readonly NodeStatus[];
  /** Every pair must be on the node. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Part of the name, the id, the fingerprint or a label; case does not matter. */
  readonly text?: string;
}

export interface PageRequest {
  /** 1 to 1000; 100 unless told. */
  readonly pageSize?: number;
  /** `nextPageToken` of the page before. */
  readonly pageToken?: string;
}

export interface NewNode {
  /** Text as ssh-keygen or openssl write it (OpenSSH line or PEM), or SubjectPublicKeyInfo in DER. P-256 or P-384. */
  readonly publicKey: string | Uint8Array;
  /** Unique in the tenant; none unless told. */
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Register a revoked key again, as a new node. */
  readonly again?: boolean;
}

/** A node: its `id`, its name, or its fingerprint. NODE_NOT_FOUND for one that is not there; NOT_ALLOWED, there or not, for who may see only its own. */
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
  /** What its status was, newest first. */
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

type Unary<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, answer: A) => void,
) => ClientUnaryCall;

/** Nothing is sent before the first call. */
export function openNodes(target: HttpTarget, tokens: TokenSource): OpenNodes {
  const client = new GrpcClient(
    `dns:${target.addressText}`,
    secureCredentials(target),
    channelOptions(target),
  );

  const closing = new AbortController();

  async function askOnce<Q, A>(call: Unary<Q, A>, request: Q, token: string): Promise<A> {
    try {
      return await new Promise<A>((resolve, reject) => {
        const options = { deadline: Date.now() + answerWithinMs };
        call.call(client, request, bearer(token), options, (error, answer) => {
          if (error) reject(error);
          else resolve(answer);
        });
      });
    } catch (error) {
      throw await explain(error as ServiceError, target);
    }
  }

  const asking =
    <Q, A>(call: Unary<Q, A>) =>
    (request: Q): Promise<A> =>
      withToken(tokens, token => askOnce(call, request, token));

  const calls = {
    register: asking<RegisterNodeRequest, Node>(client.registerNode.bind(client)),
    get: asking<GetNodeRequest, Node>(client.getNode.bind(client)),
    list: asking<ListNodesRequest, ListNodesResponse>(client.listNodes.bind(client)),
    revoke: asking<RevokeNodeRequest, RevokeNodeResponse>(client.revokeNode.bind(client)),
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
    get: node => calls.get({ node: `${node}` }),
    register: async ({ publicKey, name = '', labels = {}, again = false }) =>
      calls.register({ publicKey: await readSpki(publicKey), name, labels: { ...labels }, again }),
    revoke: (node, comment = '') => calls.revoke({ node: `${node}`, comment }),
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

function bearer(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

/** 0 is the link's own choice. */
function wholePage({ pageSize = 0, pageToken = '' }: PageRequest): Required<PageRequest> {
  return { pageSize, pageToken };
}

async function* everyItem<T>(
  askPage: (page: PageRequest) => Promise<{ readonly items: readonly T[]; readonly nextPageToken: string }>,
): AsyncGenerator<T, void, undefined> {
  let pageToken = '';
  do {
    const { items, nextPageToken } = await askPage({ pageSize: largestPage, pageToken });
    yield* items;
    pageToken = nextPageToken;
  } while (pageToken !== '');
}

async function readSpki(key: string | Uint8Array): Promise<Buffer> {
  if (typeof key !== 'string') return Buffer.from(key);
  const { readPublicKey } = await import('../identity/key-file.js');
  return readPublicKey(Buffer.from(key)).spki;
}

function secureCredentials({ address, roots }: HttpTarget): ChannelCredentials {
  const context = createSecureContext({ ca: roots, minVersion: 'TLSv1.3' });
  return credentials.createFromSecureContext(context, {
    // Checked against the host that was named: for an IP another server name is sent (see channelOptions).
    checkServerIdentity: (_sent, certificate) => checkServerIdentity(address.host, certificate),
  });
}

function channelOptions({ address }: HttpTarget): ChannelOptions {
  return {
    'grpc.max_receive_message_length': largestAnswerBytes,
    // A proxy that happens to be set up for browsing has no business between an operator and the link.
    'grpc.enable_http_proxy': 0,
    'grpc.enable_retries': 0,
    // A cut cable must end a watch.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 5_000,
    // RFC 6066 §3 allows no IP as the server name, and Node.js warns about one; the link pays no attention to it.
    ...(isIP(address.host) !== 0 && { 'grpc.ssl_target_name_override': 'link.invalid' }),
  };
}
