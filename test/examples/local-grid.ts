/**
 * Both halves of an app in one process, for tests of their messages: contents are encoded and decoded on the way as
 * they are between machines. Delivery between processes is tested elsewhere.
 */
import { join } from 'node:path';
import type {
  AppLog,
  Content,
  Grid,
  GridReply,
  Handlers,
  NodeContext,
  OutgoingMessage,
  Replies,
  RunConfig,
  RunResult,
  ServerMain,
} from '../../src/app/app.js';
import type * as ContentModule from '../../src/app/content.js';
import { root } from '../../scripts/running.js';

/** The built one, whose arrays are those that the example's `rollcall/app` gives. */
const { decodeContent, encodeContent } = (await import(
  join(root, 'dist/src/app/content.js')
)) as typeof ContentModule;

export interface LocalNode {
  readonly id: string;
  readonly name: string;
  readonly config: NodeContext['nodeConfig'];
}

export interface LocalRun {
  readonly result: RunResult | undefined;
  /** `info round 1/5 …` */
  readonly log: readonly string[];
  /** By the node's id: what it keeps. */
  readonly states: ReadonlyMap<string, NodeContext['state']>;
  readonly progress: readonly number[];
}

export async function runLocally(options: {
  readonly main: ServerMain;
  readonly handlers: Handlers;
  readonly nodes: readonly LocalNode[];
  readonly config: RunConfig;
}): Promise<LocalRun> {
  const { main, handlers, nodes, config } = options;
  const lines: string[] = [];
  const progress: number[] = [];
  const states = new Map<string, NodeContext['state']>(nodes.map(({ id }) => [id, {}]));
  const log = createLog(lines);
  const signal = new AbortController().signal;

  async function handle(
    { node, type, group, content }: OutgoingMessage,
    message: number,
  ): Promise<GridReply> {
    const own = nodes.find(({ id }) => id === node);
    const handler = handlers[type];
    if (!own || !handler) return { message, node, error: { code: 'NO_HANDLER', message: 'nobody is there' } };
    const incoming = {
      message,
      type,
      group: group ?? '',
      content: travel(content),
      attempt: 1,
      createdAt: 0,
    };
    const context: NodeContext = {
      ...{ nodeConfig: own.config, nodeId: node, runId: '1', runConfig: config, log, signal },
      state: states.get(node) ?? {},
      progress: fraction => void progress.push(fraction),
    };
    try {
      return { message, node, content: travel((await handler(incoming, context)) ?? {}) };
    } catch (error) {
      return { message, node, error: { code: 'HANDLER_THREW', message: (error as Error).message } };
    }
  }

  const grid: Grid = {
    nodes: () => Promise.resolve(nodes.map(({ id, name }) => ({ id, name, labels: {} }))),
    send: () => Promise.reject(new Error('not here')),
    receive: () => createReplies([]),
    sendAndReceive: messages => createReplies(messages.map((message, at) => handle(message, at + 1))),
  };
  const result = await main({ grid, config, log, signal, runId: '1' });
  return { result, log: lines, states, progress };
}

function travel(content: Content): Content {
  return decodeContent(Uint8Array.from(Buffer.concat(encodeContent(content))));
}

function createReplies(answers: readonly Promise<GridReply>[]): Replies {
  return {
    progress: { sent: answers.length, answered: 0, failed: 0 },
    async *[Symbol.asyncIterator]() {
      for (const answer of answers) yield await answer;
    },
  };
}

function createLog(lines: string[]): AppLog {
  const line = (level: string) => (text: string) => void lines.push(`${level} ${text}`);
  return { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
}
