/**
 * The conversation with the runner of a server half, on one connection of it (docs/app-host-protocol.md): what it asks is done in the
 * order in which it is durable, what it is owed comes again on its next connection.
 */
import { setMaxListeners } from 'node:events';
import type { FrameConnection, Frame } from '../../../app-host/wire/frames.js';
import { handleObjectFrame } from '../../../app-host/wire/object-frames.js';
import { RollcallError, toRollcallError } from '../../../base/errors.js';
import type { Clock } from '../../../base/clock.js';
import { createTurns } from '../../../base/keyed-queue.js';
import type { ObjectBucket } from '../../../objects/object-store.js';
import type { MessageErrorCode } from '../../../app/message-error.js';
import { appLimits } from '../../../app/limits.js';
import { limits } from '../../../protocol/limits.js';
import type { Content, Question } from '../messages/message-record.js';
import { pagesOf, waitingEveryMs, type FindNodes, type FoundNode, type NodeWish } from './find-nodes.js';
import { isPassing, untilStored } from '../../../store/retry.js';
import { linkLine, type RunLog } from '../run-log.js';
import type { RunMessages } from '../messages/run-messages.js';
import type { RunRecord } from '../run-record.js';
import { readNodesRequest, readSend, wantCount, wantText, type SentMessage } from './server-frames.js';
import { cleanText } from '../../../base/text.js';

export interface ServerHalf {
  /** An answer is there. */
  answer(number: number): void;
  progress(number: number, node: bigint, fraction: number, note: string): void;
  /** The run is to be stopped. */
  stop(): void;
  /** What it said last is recorded. */
  over(): void;
  close(): void;
}

export interface ServerHalfOptions {
  readonly connection: FrameConnection;
  readonly clock: Clock;
  readonly record: RunRecord;
  readonly messages: RunMessages;
  readonly log: RunLog;
  readonly archive: ObjectBucket;
  readonly own: ObjectBucket;
  /** Of the parties whose answers it may read. */
  readonly bucketOf: (node: bigint) => ObjectBucket;
  readonly findNodes: FindNodes;
  /** Why a message cannot go to this node. */
  readonly checkNode: (node: bigint) => Promise<MessageErrorCode | undefined>;
  /** It has loaded; resolves when that is on the disk. */
  readonly onReady: () => Promise<void>;
  readonly onEnd: (end: { readonly result: string } | { readonly failure: string }) => void;
}

/** More of them being stored, and it is not read any more. */
const mostOutstanding = 256;
/** Answers within their frames given and not taken. */
const mostUntaken = 64;
/** Searches for nodes that wait. */
const mostSearches = 64;
/** Between two of their answers: at least so long, ms, and longer for many nodes. */
const minSearchPauseMs = 5;
const nodesPerPauseMs = 100;
/** Messages that were not taken, of one run. */
const mostUnanswered = 200_000;
/** Of the labels in a line about waiting. */
const longestLabels = 200;
/** Objects that were written last are kept though no message speaks of them yet. */
const leases = 4;

export function createServerHalf(options: ServerHalfOptions): ServerHalf {
  const { connection, clock, record, messages, log, own } = options;
  const inTurn = createTurns();
  const work = new Set<Promise<void>>();
  const leased: string[] = [];
  const ending = new AbortController();
  /** Who pauses the reading while much waits to be written. */
  const unread = {};
  setMaxListeners(mostSearches, ending.signal);
  let answers = messages.answered();
  /** Given on this connection, and not taken. */
  const untaken = new Set<number>();
  let isPumping = false;
  let isCrowded = false;
  let searches = 0;
  let tellWaitingFrom = 0;
  let isReady = record.status === 'running';
  let readying: Promise<void> = Promise.resolve();
  let isOver = false;

  function track(doing: Promise<void>): void {
    const done = doing
      .catch((error: unknown) => connection.bye(toRollcallError(error).message))
      .finally(() => {
        work.delete(done);
        if (work.size === mostOutstanding) connection.resume();
      });
    work.add(done);
    if (work.size > mostOutstanding) connection.pause();
  }

  async function welcome(): Promise<void> {
    const { app, config, id } = record;
    connection.send('welcome', {
      protocol: 1,
      run: `${id}`,
      half: 'server',
      app: { name: app.name, version: app.version, entry: app.serverEntry },
      config,
      archiveBytes: isReady ? 0 : app.archive.sizeBytes,
      stateBytes: 0,
      resumed: isReady,
    });
    if (!isReady) await sendArchive();
    else pumpAnswers();
  }

  async function sendArchive(): Promise<void> {
    const manifest = await options.archive.find(record.app.archive.digest);
    if (!manifest) throw new RollcallError('INTERNAL', 'the app of this run is gone');
    for (let index = 0; index < manifest.chunks.length; index++) {
      connection.send('archive', {}, await options.archive.readChunk(manifest, index));
      await connection.drained();
    }
  }

  async function send(sent: SentMessage): Promise<void> {
    // Looked at as it comes: what it takes next is not sent anew.
    const before = messages.find(sent.number);
    await readying;
    const createdAt = clock.now();
    const question: Question = {
      ...{ number: sent.number, node: sent.node ?? 0n, type: sent.type, group: sent.group },
      ...{ createdAt, expiresAt: createdAt + sent.ttlMs },
    };
    const accept = (): void => say('accepted', { number: sent.number });
    if (before) {
      await before.work.catch(() => undefined);
      if (before.status !== 'storing') {
        accept();
        return;
      }
    }
    const refusal = await whyNot(sent);
    try {
      await (refusal ? messages.refuse(question, refusal) : messages.send(question, sent.content));
      accept();
    } catch (error) {
      if (!isPassing(error)) throw error;
      // Its answer, while that can be given; after a restart it is sent again.
      messages.turnAway(question, 'STORE_FULL', toRollcallError(error).message);
    }
  }

  async function whyNot({ node, content }: SentMessage): Promise<MessageErrorCode | undefined> {
    if (node === undefined) return 'NODE_NOT_FOUND';
    const problem = await whileOpen(() => options.checkNode(node));
    return problem ?? ((await isThere(content)) ? undefined : 'OBJECT_LOST');
  }

  /** A disk that fails for a moment is no reason to part. */
  const whileOpen = <T>(work: () => Promise<T>): Promise<T> =>
    untilStored(clock, work, () => !connection.closed);

  async function isThere(content: Content): Promise<boolean> {
    if ('bytes' in content) return true;
    const { digest } = content.object;
    const manifest = await whileOpen(() => own.find(digest));
    return manifest?.sizeBytes === content.object.sizeBytes;
  }

  async function findNodes(frame: Frame): Promise<void> {
    const { request, wish } = readNodesRequest(frame);
    if (searches >= mostSearches) {
      say('nodes', { request, error: `at most ${mostSearches} searches for nodes at once` });
      return;
    }
    searches += 1;
    try {
      const nodes = await whileOpen(() =>
        options.findNodes(wish, ending.signal, count => tellWaiting(wish, count)),
      );
      await inTurn('nodes', () => sendNodes(request, nodes));
    } catch (error) {
      if (!ending.signal.aborted) say('nodes', { request, error: toRollcallError(error).message });
    } finally {
      searches -= 1;
    }
  }

  /** A line of the link in the log of the run, however many searches wait: the log has room for others too. */
  function tellWaiting({ min, labels }: NodeWish, count: number): void {
    if (clock.elapsed() < tellWaitingFrom) return;
    // A timer may be a little early.
    tellWaitingFrom = clock.elapsed() + waitingEveryMs - 1_000;
    const fitting = Object.entries(labels).map(([name, value]) => ` ${name}=${value}`);
    const wanted = `${min} ${min === 1 ? 'node' : 'nodes'}${fitting.join('').slice(0, longestLabels)}`;
    track(log.append('link', [linkLine(clock, `waiting for ${wanted} (${count} online)`)]));
  }

  /** One answer after the other, and slower the longer they are: asking costs little, and answering does not. */
  async function sendNodes(request: number, nodes: readonly FoundNode[]): Promise<void> {
    for (const { page, isLast } of pagesOf(nodes)) {
      say('nodes', { request, nodes: page, isLast });
      await connection.drained();
    }
    const pauseMs = minSearchPauseMs + nodes.length / nodesPerPauseMs;
    void inTurn('nodes', () => new Promise<void>(resolve => void clock.after(pauseMs, resolve)));
  }

  function takeLog({ value }: Frame): void {
    const sequence = wantCount(value, 'sequence');
    const { at } = value;
    const line = {
      at: typeof at === 'number' ? at : clock.now(),
      level: wantText(value, 'level', 20),
      text: wantText(value, 'text', limits.contentBytes),
    };
    track(
      readying
        .then(() => (sequence <= log.serverSequence() ? undefined : log.append('server', [line], sequence)))
        .then(() => say('logged', { sequence: log.serverSequence() })),
    );
  }

  /** What waits to be written is bounded: who does not read is not read from either. */
  function say(name: string, value: object): void {
    if (connection.send(name, value)) return;
    connection.pause(unread);
    void connection.drained().then(() => connection.resume(unread));
  }

  function end(outcome: Parameters<ServerHalfOptions['onEnd']>[0]): void {
    if (isOver) return;
    isOver = true;
    const waiting = [...work];
    void Promise.all(waiting).then(() => options.onEnd(outcome));
  }

  function readResult({ value }: Frame): Parameters<ServerHalfOptions['onEnd']>[0] {
    const result = value['result'] === undefined ? '' : JSON.stringify(value['result']);
    return Buffer.byteLength(result) <= appLimits.maxResultBytes
      ? { result }
      : { failure: 'what it returned is larger than 64 KiB' };
  }

  function receive(frame: Frame): void {
    // What it says after its last word has no place.
    if (isOver) return;
    switch (frame.name) {
      case 'ready':
        if (isReady) return;
        isReady = true;
        readying = options.onReady();
        track(readying.then(pumpAnswers));
        return;
      case 'send':
        if (messages.size < mostUnanswered) track(send(readSend(frame)));
        else end({ failure: `more than ${mostUnanswered} messages and answers wait to be taken` });
        return;
      case 'taken':
        untaken.delete(wantCount(frame.value, 'number'));
        track(messages.take(wantCount(frame.value, 'number')));
        pumpAnswers();
        return;
      case 'nodes':
        void findNodes(frame).catch((error: unknown) => connection.bye(toRollcallError(error).message));
        return;
      case 'log':
        takeLog(frame);
        return;
      case 'finished':
        end(readResult(frame));
        return;
      case 'failed':
        end({
          failure: cleanText(
            wantText(frame.value, 'message', limits.contentBytes),
            appLimits.maxFailureBytes,
          ),
        });
        return;
      default:
        // What a newer runner may say besides is passed over.
        handleObjectFrame(connection, frame, { readable, writable: own, onStored: lease });
    }
  }

  async function readable(digest: string) {
    const node = messages.speaksOf(digest, 'answers');
    const bucket = node === undefined ? undefined : options.bucketOf(node);
    const manifest = await bucket?.find(digest);
    return bucket && manifest ? { manifest, bucket } : undefined;
  }

  function lease({ digest }: { readonly digest: string }): void {
    own.retain(digest);
    leased.push(digest);
    if (leased.length > leases) track(own.release(leased.shift() ?? ''));
  }

  function pumpAnswers(): void {
    if (isPumping || !isReady || !mayGive()) return;
    isPumping = true;
    giveAnswers().then(
      () => {
        isPumping = false;
        // What came while it was ending.
        pumpAnswers();
      },
      (error: unknown) => {
        isPumping = false;
        connection.bye(toRollcallError(error).message);
      },
    );
  }

  function mayGive(): boolean {
    return answers.length > 0 && untaken.size < mostUntaken && !connection.closed;
  }

  async function giveAnswers(): Promise<void> {
    await readying;
    while (mayGive()) {
      const some = answers.splice(0, mostUntaken - untaken.size);
      for (const number of some) untaken.add(number);
      for (const number of some) await giveAnswer(number);
      await connection.drained();
    }
  }

  async function giveAnswer(number: number): Promise<void> {
    const entry = messages.find(number);
    const answer = await whileOpen(() => messages.readAnswer(number));
    if (!entry || !answer) {
      untaken.delete(number);
      return;
    }
    // Whoever is given an object reads it when it likes; it costs nothing until then.
    if ('object' in answer) untaken.delete(number);
    const about = { number, node: `${entry.question.node}` };
    if ('error' in answer) connection.send('answer', { ...about, error: answer.error });
    else if ('object' in answer) connection.send('answer', { ...about, object: answer.object });
    else connection.send('answer', about, answer.bytes);
  }

  connection.onFrame(frame => {
    try {
      receive(frame);
    } catch (error) {
      connection.bye(toRollcallError(error).message);
    }
  });
  connection.onClose(() => {
    ending.abort();
    answers = [];
    for (const digest of leased.splice(0)) void own.release(digest).catch(() => undefined);
  });
  void welcome().catch((error: unknown) => connection.bye(toRollcallError(error).message));

  return {
    answer(number) {
      answers.push(number);
      pumpAnswers();
    },
    progress(number, node, fraction, note) {
      // It may be missed; what waits for a half that does not read may not grow by what nodes say.
      if (isCrowded || connection.send('progress', { number, node: `${node}`, fraction, note })) return;
      isCrowded = true;
      void connection.drained().then(() => (isCrowded = false));
    },
    stop: () => void connection.send('stop', {}),
    over() {
      isOver = true;
      connection.send('over', {});
    },
    close: () => connection.destroy(),
  };
}
