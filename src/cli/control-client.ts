/**
 * Asks the link what an operator may ask: gRPC over TLS 1.3, verified against the given roots and the host that was
 * named, with the token in every call. Every failure comes out as one error that says what to do.
 */
import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import {
  credentials,
  Metadata,
  status as Status,
  type CallOptions,
  type ChannelCredentials,
  type ChannelOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ServiceError,
} from '@grpc/grpc-js';
import { RollcallError } from '../base/errors.js';
import { fromGrpcStatus, hasStatedCode } from '../protocol/status.js';
import {
  ControlClient,
  type ListNodeHistoryRequest,
  type ListNodeHistoryResponse,
  type ListNodesRequest,
  type ListNodesResponse,
  type Node,
  type NodeEvent,
  type RegisterNodeRequest,
  type RevokeNodeRequest,
  type RevokeNodeResponse,
} from '../protocol/generated/rollcall/v1/control.js';
import { diagnose } from './diagnosis.js';
import { StatedByLink } from './failure.js';
import type { ControlSettings } from './control-options.js';

/** For an answer, ms. */
const answerWithinMs = 10_000;
const lateAnswer = `nothing came within ${answerWithinMs / 1000} seconds`;
/** A page of a thousand nodes with many labels fits well. */
const largestAnswerBytes = 64 * 1024 * 1024;

export interface Watcher {
  /** Every node once before the changes. */
  readonly snapshot: boolean;
  /** The link said that the watch is on. */
  readonly onOpen: () => void;
  readonly onNode: (node: Node) => void;
}

export interface Watch {
  /** Resolves after `stop`, rejects when the watch ends for any other reason. */
  readonly ended: Promise<void>;
  stop(): void;
}

export interface Control {
  /** `host:port`, for messages. */
  readonly addressText: string;
  registerNode(request: RegisterNodeRequest): Promise<Node>;
  getNode(node: string): Promise<Node>;
  listNodes(request: ListNodesRequest): Promise<ListNodesResponse>;
  revokeNode(request: RevokeNodeRequest): Promise<RevokeNodeResponse>;
  listNodeHistory(request: ListNodeHistoryRequest): Promise<ListNodeHistoryResponse>;
  watchNodes(watcher: Watcher): Watch;
  close(): void;
}

type Unary<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, answer: A) => void,
) => ClientUnaryCall;

/** Nothing is sent before the first call. */
export function openControl(settings: ControlSettings): Control {
  const { addressText, token } = settings;
  const client = new ControlClient(
    `dns:${addressText}`,
    secureCredentials(settings),
    channelOptions(settings),
  );
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);

  async function ask<Q, A>(call: Unary<Q, A>, request: Q): Promise<A> {
    try {
      return await new Promise<A>((resolve, reject) => {
        const options = { deadline: Date.now() + answerWithinMs };
        call.call(client, request, metadata, options, (error, answer) => {
          if (error) reject(error);
          else resolve(answer);
        });
      });
    } catch (error) {
      throw await explain(error as ServiceError, settings);
    }
  }

  return {
    addressText,
    registerNode: request => ask<RegisterNodeRequest, Node>(client.registerNode.bind(client), request),
    getNode: node => ask<{ node: string }, Node>(client.getNode.bind(client), { node }),
    listNodes: request => ask<ListNodesRequest, ListNodesResponse>(client.listNodes.bind(client), request),
    revokeNode: request =>
      ask<RevokeNodeRequest, RevokeNodeResponse>(client.revokeNode.bind(client), request),
    listNodeHistory: request =>
      ask<ListNodeHistoryRequest, ListNodeHistoryResponse>(client.listNodeHistory.bind(client), request),
    watchNodes: watcher =>
      follow(client.watchNodes({ snapshot: watcher.snapshot }, metadata), watcher, settings),
    close: () => client.close(),
  };
}

function secureCredentials({ address, roots }: ControlSettings): ChannelCredentials {
  const context = createSecureContext({ ca: roots, minVersion: 'TLSv1.3' });
  return credentials.createFromSecureContext(context, {
    // Checked against the host that was named: for an IP another server name is sent (see channelOptions).
    checkServerIdentity: (_sent, certificate) => checkServerIdentity(address.host, certificate),
  });
}

function channelOptions({ address }: ControlSettings): ChannelOptions {
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

/** What the error of a call means: stated by the link, or found out by asking once more. */
async function explain(error: ServiceError, settings: ControlSettings): Promise<RollcallError> {
  const { addressText, tokenPath } = settings;
  if (hasStatedCode(error)) {
    const stated = fromGrpcStatus(error);
    const hint =
      stated.code === 'TOKEN_REFUSED'
        ? `the token came from ${tokenPath}; log in again with rollcall login, or give one for the link at ${addressText}`
        : stated.hint;
    return new StatedByLink(stated, hint);
  }
  if (error.code === Status.UNAVAILABLE) return diagnose(settings, 'the connection failed');
  if (error.code === Status.DEADLINE_EXCEEDED) {
    return diagnose(settings, lateAnswer);
  }
  if (error.code === Status.UNIMPLEMENTED) {
    return new RollcallError('LINK_UNREACHABLE', `what answers at ${addressText} is not a control port`, {
      hint: 'nodes use 9092 and operators 9093 unless the link was told otherwise',
      cause: error,
    });
  }
  return fromGrpcStatus(error);
}

function follow(stream: ClientReadableStream<NodeEvent>, watcher: Watcher, settings: ControlSettings): Watch {
  let stopped = false;
  let open = false;
  const impatience = setTimeout(() => stream.cancel(), answerWithinMs);
  stream.on('metadata', () => {
    open = true;
    clearTimeout(impatience);
    watcher.onOpen();
  });
  stream.on('data', ({ node }: NodeEvent) => {
    if (node) watcher.onNode(node);
  });
  const ended = new Promise<void>((resolve, reject) => {
    const end = (error: ServiceError | undefined) => {
      clearTimeout(impatience);
      if (stopped) resolve();
      else void explainEnd(error, open, settings).then(reject);
    };
    stream.on('error', (error: ServiceError) => end(error));
    stream.on('end', () => end(undefined));
  });
  return {
    ended,
    stop() {
      stopped = true;
      stream.cancel();
    },
  };
}

/** A watch that was up ends when the link goes; one that never was up could not reach it. */
async function explainEnd(
  error: ServiceError | undefined,
  wasOpen: boolean,
  settings: ControlSettings,
): Promise<RollcallError> {
  const lost = error === undefined || (error.code === Status.UNAVAILABLE && !isRefusal(error));
  if (wasOpen && lost) {
    return new RollcallError('LINK_UNREACHABLE', `the link at ${settings.addressText} went away`, {
      hint: 'run the command again when it is back',
      cause: error,
    });
  }
  if (error === undefined || error.code === Status.CANCELLED) return diagnose(settings, lateAnswer);
  return explain(error, settings);
}

/** True for a stated refusal that is not just the link closing. */
function isRefusal(error: ServiceError): boolean {
  return hasStatedCode(error) && fromGrpcStatus(error).code !== 'LINK_DRAINING';
}
