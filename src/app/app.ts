/**
 * The package entry for authors of apps, `rollcall/app`. An app has two halves, each the default export of a file that `app.json`
 * names:
 *
 * ```js
 * // server.js
 * import { serverApp } from 'rollcall/app';
 * export default serverApp(async ({ grid, config, log }) => {
 *   const nodes = await grid.nodes({ min: 2 });
 *   const messages = nodes.map(node => ({ node: node.id, type: 'query', content: { greeting: config.greeting } }));
 *   for await (const { node, content, error } of grid.sendAndReceive(messages)) log.info(`${node}: ${error ?? content.answer}`);
 * });
 *
 * // node.js
 * import { nodeApp } from 'rollcall/app';
 * export default nodeApp({ query: ({ content }, { nodeConfig }) => ({ answer: `${content.greeting} from ${nodeConfig.name}` }) });
 * ```
 *
 * Contents are records of numbers, texts, truth values, bytes, arrays of numbers and records (content.ts); arrays are not
 * copied on the way in or out.
 */
import type { Content } from './content.js';
import type { MessageErrorCode } from './message-error.js';

export { NumberArray, type Content, type ContentValue } from './content.js';
export type { MessageErrorCode } from './message-error.js';

/** Settings of a run: those of `app.json`, with what `--set NAME=VALUE` changed. */
export type RunConfig = Readonly<Record<string, string | number | boolean>>;

/** Lines that anyone who started the run reads. */
export interface AppLog {
  debug(text: string): void;
  info(text: string): void;
  warn(text: string): void;
  error(text: string): void;
}

/** A node as the server half sees it. */
export interface GridNode {
  /** Decimal. */
  readonly id: string;
  /** Empty when it has none. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface NodesQuery {
  /** Waits until so many are online; 1 by default. */
  readonly min?: number;
  /** Every pair must be on the node. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Gives up waiting; for ever by default. */
  readonly timeoutMs?: number;
}

export interface OutgoingMessage {
  /** A node's id. */
  readonly node: string;
  /** The handler it is for: `train`, `evaluate`, `query`, or one of the app's own. */
  readonly type: string;
  /** Large arrays of it must not change until the message is sent: until `send` resolves, or its answer comes. */
  readonly content: Content;
  /** For the app's own order, such as a round. */
  readonly group?: string;
  /** For how long it waits for the node and its answer; an hour by default, at most a week. */
  readonly ttlMs?: number;
}

export interface MessageFailure {
  readonly code: MessageErrorCode;
  readonly message: string;
}

/** The answer to one message: a content, or an error. */
export type GridReply =
  | { readonly message: number; readonly node: string; readonly content: Content; readonly error?: undefined }
  | {
      readonly message: number;
      readonly node: string;
      readonly content?: undefined;
      readonly error: MessageFailure;
    };

export interface GridProgress {
  readonly message: number;
  readonly node: string;
  /** 0 to 1. */
  readonly fraction: number;
  readonly note: string;
}

export interface SendOptions {
  /** Stands in for the `ttlMs` of messages that have none. */
  readonly timeoutMs?: number;
  /** Hears how far handlers say they are; may be missed. */
  readonly onProgress?: (progress: GridProgress) => void;
}

/** Replies in the order they come; ends when every message has its answer. Who leaves the loop gives up the rest. */
export interface Replies extends AsyncIterable<GridReply> {
  /** Of the messages: accepted by the link, and answered, by whatever or by an error. */
  readonly progress: { readonly sent: number; readonly answered: number; readonly failed: number };
}

/** Once the run is being stopped, and when the server half has ended, whatever waits here throws. */
export interface Grid {
  /** Nodes of the tenant that are online now; throws when `timeoutMs` passes before there are `min`. */
  nodes(query?: NodesQuery): Promise<readonly GridNode[]>;
  /**
   * Resolves with the numbers of the messages when all are on the disk of the link or refused. Their answers are given by
   * `receive`, also the refusals.
   */
  send(messages: readonly OutgoingMessage[]): Promise<readonly number[]>;
  /** The answers to these messages of `send`. */
  receive(numbers: readonly number[], options?: Pick<SendOptions, 'onProgress'>): Replies;
  /** Both. A content that is the very same object in several messages travels once. */
  sendAndReceive(messages: readonly OutgoingMessage[], options?: SendOptions): Replies;
}

export interface ServerContext {
  readonly grid: Grid;
  readonly config: RunConfig;
  readonly log: AppLog;
  /** Aborted when the run is stopped; a few seconds later the process is ended. */
  readonly signal: AbortSignal;
  /** Decimal. */
  readonly runId: string;
}

/** A value that can be written as JSON, at most 64 KiB of it. */
export type RunResult =
  string | number | boolean | null | readonly RunResult[] | { readonly [name: string]: RunResult };

/** Returns what `rollcall runs show` shows as the result; what it throws is why the run failed. */
export type ServerMain = (context: ServerContext) => Promise<RunResult | undefined> | RunResult | undefined;

export interface IncomingMessage {
  /** Counted in the run. */
  readonly message: number;
  readonly type: string;
  readonly group: string;
  readonly content: Content;
  /** Above 1 when a handler may have been entered with it before, and the agent died. */
  readonly attempt: number;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
}

export interface NodeContext {
  /** The `--node-config` of the agent. */
  readonly nodeConfig: Readonly<Record<string, string | number | bigint | boolean>>;
  /** Decimal. */
  readonly nodeId: string;
  readonly runId: string;
  readonly runConfig: RunConfig;
  /**
   * Kept between the messages of a run, on this node alone. What a handler leaves in it is on the disk together with its
   * reply; what one that threw left is undone.
   */
  readonly state: { [name: string]: Content[string] };
  readonly log: AppLog;
  /** Aborted when nobody wants the answer any more. */
  readonly signal: AbortSignal;
  /** For progress bars: 0 to 1. */
  progress(fraction: number, note?: string): void;
}

export type Handler = (
  message: IncomingMessage,
  context: NodeContext,
) => Content | undefined | Promise<Content | undefined>;

/** By the type of message; `train`, `evaluate` and `query` are the usual ones. One message of a run at a time. */
export type Handlers = Readonly<Record<string, Handler>>;

const kind = Symbol.for('rollcall app half');

export interface ServerHalf {
  readonly [kind]: 'server';
  readonly main: ServerMain;
}

export interface NodeHalf {
  readonly [kind]: 'node';
  readonly handlers: Handlers;
}

export function serverApp(main: ServerMain): ServerHalf {
  if (typeof main !== 'function') throw new TypeError('serverApp expects a function');
  return { [kind]: 'server', main };
}

export function nodeApp(handlers: Handlers): NodeHalf {
  for (const [type, handler] of Object.entries(handlers))
    if (typeof handler !== 'function') throw new TypeError(`the handler of ${type} is no function`);
  return { [kind]: 'node', handlers };
}

/** For the app host: what a module has for a default export. */
export function isServerHalf(value: unknown): value is ServerHalf {
  return typeof value === 'object' && value !== null && kind in value && value[kind] === 'server';
}

export function isNodeHalf(value: unknown): value is NodeHalf {
  return typeof value === 'object' && value !== null && kind in value && value[kind] === 'node';
}
