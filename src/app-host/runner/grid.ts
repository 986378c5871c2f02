/**
 * The grid as the server half sees it, made of frames: what the app gives is checked here, so that its author is told in the
 * place where the mistake is, and what the link is asked is asked again when its connection was lost.
 */
import type { Content } from '../../app/content.js';
import type { Grid, GridNode, NodesQuery, OutgoingMessage, SendOptions } from '../../app/app.js';
import { appLimits } from '../../app/limits.js';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { withAbort } from '../../base/wait.js';
import type { Frame } from '../wire/frames.js';
import { prepareContent, type OutgoingContent } from './content.js';
import type { RunnerLink } from './link.js';
import { MessageBook, type AnswerReceiver, type PostedMessage } from './messages.js';
import { OpenReplies } from './replies.js';
import { WaitingReaders } from './waiting-readers.js';

export interface OpenGrid {
  /** For the app. */
  readonly grid: Grid;
  /** True for a frame that it took. */
  readonly take: (frame: Frame) => boolean;
  /** Sends again what the link may not have. */
  readonly onConnected: () => void;
}

export interface GridOptions {
  readonly link: RunnerLink;
  readonly clock: Clock;
  /** Once it is aborted, everything the app still asks for is refused with its reason. */
  readonly signal: AbortSignal;
}

const { minTtlMs, defaultTtlMs, maxTtlMs } = appLimits;
const maxNameLength = 200;
const maxNodes = 1_000_000;

export function createGrid({ link, clock, signal }: GridOptions): OpenGrid {
  const messages = new MessageBook(link);
  const nodes = createNodeQueries(link, clock, signal);
  const waitingReaders = new WaitingReaders();

  /** All or none: nothing is numbered before all of it is checked. */
  function post(
    outgoing: readonly OutgoingMessage[],
    ttlMs: number,
    receiver?: AnswerReceiver,
  ): readonly number[] {
    signal.throwIfAborted();
    const prepared = new Map<Content, OutgoingContent>();
    const checked = outgoing.map(message => checkMessage(message, ttlMs, prepared));
    return checked.map(message => messages.post(message, receiver));
  }

  function openReplies(options: Pick<SendOptions, 'onProgress'>): OpenReplies {
    return new OpenReplies({
      readObject: object => link.withObjects(objects => objects.read(object)),
      taken: number => messages.taken(number),
      waitingReaders,
      signal,
      onProgress: options.onProgress,
    });
  }

  const grid: Grid = {
    nodes: query => nodes.ask(query ?? {}),
    async send(outgoing) {
      const numbers = post(outgoing, defaultTtlMs);
      await withAbort(messages.accepted(numbers), signal);
      return numbers;
    },
    receive(numbers, options = {}) {
      const open = openReplies(options);
      open.expect(numbers.length);
      messages.claim(numbers, open);
      return open.asReplies();
    },
    sendAndReceive(outgoing, options = {}) {
      const open = openReplies(options);
      open.expect(post(outgoing, checkTtl(options.timeoutMs ?? defaultTtlMs), open).length);
      return open.asReplies();
    },
  };

  return {
    grid,
    take: frame => messages.take(frame) || nodes.take(frame),
    onConnected() {
      nodes.onConnected();
      messages.onConnected();
    },
  };
}

/** `prepared`: contents of the same call; the very same object in several messages is prepared once. */
function checkMessage(
  { node, type, content, group = '', ttlMs }: OutgoingMessage,
  defaultMs: number,
  prepared: Map<Content, OutgoingContent>,
): PostedMessage {
  if (typeof node !== 'string' || !/^\d{1,20}$/.test(node))
    throw unfit('its node is no id, such as one that grid.nodes() gives');
  if (!isName(type) || type === '') throw unfit(`its type is no text of 1 to ${maxNameLength} characters`);
  if (!isName(group)) throw unfit(`its group is no text of at most ${maxNameLength} characters`);
  const ready = prepared.get(content) ?? prepareContent(content);
  prepared.set(content, ready);
  return { node, type, group, ttlMs: checkTtl(ttlMs ?? defaultMs), content: ready };
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value.length <= maxNameLength && !/\p{Cs}|\p{Cc}/u.test(value);
}

function checkTtl(ttlMs: number): number {
  if (ttlMs >= minTtlMs && ttlMs <= maxTtlMs) return Math.floor(ttlMs);
  throw unfit('ttlMs must be between 1 ms and 7 days');
}

function unfit(what: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `a message cannot be sent: ${what}`);
}

interface NodeQueries {
  ask(query: NodesQuery): Promise<readonly GridNode[]>;
  take(frame: Frame): boolean;
  onConnected(): void;
}

interface OpenQuery {
  readonly send: () => void;
  /** The ones received so far: many come in several frames. */
  readonly found: GridNode[];
  readonly resolve: (nodes: readonly GridNode[]) => void;
  readonly reject: (error: Error) => void;
}

function createNodeQueries(link: RunnerLink, clock: Clock, signal: AbortSignal): NodeQueries {
  const open = new Map<number, OpenQuery>();
  let requests = 0;

  return {
    async ask({ min = 1, labels = {}, timeoutMs }) {
      if (!Number.isSafeInteger(min) || min < 0 || min > maxNodes)
        throw new RollcallError('REQUEST_INVALID', '"min" of grid.nodes() is no number of nodes');
      if (timeoutMs !== undefined && !(timeoutMs >= 0))
        throw new RollcallError('REQUEST_INVALID', '"timeoutMs" of grid.nodes() is no time');
      const request = ++requests;
      const askedAt = clock.elapsed();
      const leftMs = (timeoutMs: number): number =>
        Math.max(0, Math.ceil(timeoutMs - (clock.elapsed() - askedAt)));
      const answer = new Promise<readonly GridNode[]>((resolve, reject) => {
        const found: GridNode[] = [];
        const send = (): void => {
          found.length = 0;
          const waits =
            timeoutMs === undefined || timeoutMs === Infinity ? {} : { timeoutMs: leftMs(timeoutMs) };
          link.send('nodes', { request, min, labels, ...waits });
        };
        open.set(request, { send, found, resolve, reject });
        send();
      });
      return withAbort(answer, signal).finally(() => open.delete(request));
    },
    take({ name, value }) {
      if (name !== 'nodes') return false;
      const query = open.get(Number(value['request']));
      if (!query) return true;
      const { nodes, error, isLast = true } = value;
      if (Array.isArray(nodes)) {
        query.found.push(...(nodes as readonly GridNode[]));
        if (isLast === true) query.resolve(query.found);
      } else query.reject(new RollcallError('DEADLINE_EXCEEDED', textOf(error)));
      return true;
    },
    onConnected() {
      for (const query of open.values()) query.send();
    },
  };
}

function textOf(error: unknown): string {
  const { message } = (error ?? {}) as Partial<Record<string, unknown>>;
  if (typeof error === 'string') return error;
  return typeof message === 'string' ? message : 'there are not enough nodes';
}
