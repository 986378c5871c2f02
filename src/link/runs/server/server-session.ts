/**
 * One connection of a server half's runner (docs/app-host-protocol.md). A request is confirmed when its effect is durable. Answers
 * that the half has not received when the connection ends are sent again on its next one.
 */
import type { FrameConnection, Frame } from '../../../app-host/wire/frames.js';
import { handleObjectFrame } from '../../../app-host/wire/object-frames.js';
import type { MessageErrorCode } from '../../../app/message-error.js';
import type { Clock } from '../../../base/clock.js';
import { RollcallError, toRollcallError } from '../../../base/errors.js';
import type { ObjectBucket } from '../../../objects/object-store.js';
import { isPassing } from '../../../store/retry.js';
import type { Question } from '../messages/message-record.js';
import type { RunMessages } from '../messages/run-messages.js';
import type { RunLog } from '../run-log.js';
import type { RunRecord } from '../run-record.js';
import { AnswerSender } from './answer-sender.js';
import type { FindNodes } from '../node-selection.js';
import { NodeSearches } from './node-searches.js';
import { ServerConnection } from './server-connection.js';
import { ServerObjects } from './server-objects.js';
import {
  readFailure,
  readLogLine,
  readResult,
  readSend,
  readCount,
  type SentMessage,
  type ServerOutcome,
} from './server-frames.js';

export interface ServerSessionOptions {
  readonly connection: FrameConnection;
  readonly clock: Clock;
  readonly record: RunRecord;
  readonly messages: RunMessages;
  readonly log: RunLog;
  readonly archive: ObjectBucket;
  readonly own: ObjectBucket;
  /** The objects of a node, whose answers may refer to them. */
  readonly bucketOf: (node: bigint) => ObjectBucket;
  readonly findNodes: FindNodes;
  /** Resolves to the reason why no message can go to this node. */
  readonly checkNode: (node: bigint) => Promise<MessageErrorCode | undefined>;
  /** Called when the half has loaded; resolves when that is on the disk. */
  readonly onReady: () => Promise<void>;
  readonly onEnd: (outcome: ServerOutcome) => void;
}

/** Maximum number of messages of one run whose answer the half has not taken. */
const maxUnanswered = 200_000;

export class ServerSession {
  readonly #options: ServerSessionOptions;
  readonly #connection: ServerConnection;
  readonly #answers: AnswerSender;
  readonly #searches: NodeSearches;
  readonly #objects: ServerObjects;
  #isReady: boolean;
  /** Resolves when it is recorded that the half has loaded. */
  #ready: Promise<void> = Promise.resolve();
  #isProgressHeld = false;
  #isOver = false;

  constructor(options: ServerSessionOptions) {
    const { connection, clock, record, messages, log, own, bucketOf, findNodes } = options;
    this.#options = options;
    this.#isReady = record.status === 'running';
    this.#connection = new ServerConnection(connection, clock);
    this.#answers = new AnswerSender(this.#connection, messages);
    this.#searches = new NodeSearches({ connection: this.#connection, clock, log, findNodes });
    this.#objects = new ServerObjects({ connection: this.#connection, messages, own, bucketOf });
    connection.onFrame(frame => {
      try {
        this.#take(frame);
      } catch (error) {
        this.#connection.refuse(error);
      }
    });
    connection.onClose(() => this.#onClose());
    this.#welcome().catch((error: unknown) => this.#connection.refuse(error));
  }

  /** This message has an answer. */
  answer(number: number): void {
    this.#answers.add(number);
  }

  progress(number: number, node: bigint, fraction: number, note: string): void {
    // Nodes must not be able to fill the memory of the link while the half does not read: progress is skipped then.
    if (this.#isProgressHeld) return;
    const { connection } = this.#options;
    if (connection.send('progress', { number, node: `${node}`, fraction, note })) return;
    this.#isProgressHeld = true;
    void connection.drained().then(() => (this.#isProgressHeld = false));
  }

  /** Asks the half to end. */
  stop(): void {
    this.#options.connection.send('stop', {});
  }

  /** The end of the run is recorded. */
  over(): void {
    this.#isOver = true;
    this.#options.connection.send('over', {});
  }

  close(): void {
    this.#options.connection.destroy();
  }

  #onClose(): void {
    this.#searches.close();
    this.#answers.close();
    this.#objects.close();
  }

  async #welcome(): Promise<void> {
    const { connection, record } = this.#options;
    const { app, config, id } = record;
    connection.send('welcome', {
      protocol: 1,
      run: `${id}`,
      half: 'server',
      app: { name: app.name, version: app.version, entry: app.serverEntry },
      config,
      archiveBytes: this.#isReady ? 0 : app.archive.sizeBytes,
      stateBytes: 0,
      resumed: this.#isReady,
    });
    if (!this.#isReady) await this.#sendArchive();
    else this.#answers.start(this.#ready);
  }

  async #sendArchive(): Promise<void> {
    const { connection, record, archive } = this.#options;
    const manifest = await archive.find(record.app.archive.digest);
    if (!manifest) throw new RollcallError('INTERNAL', 'the archive of the app is missing');
    for (let index = 0; index < manifest.chunks.length; index++) {
      connection.send('archive', {}, await archive.readChunk(manifest, index));
      await connection.drained();
    }
  }

  #take(frame: Frame): void {
    // Frames after its outcome have no effect.
    if (this.#isOver) return;
    const { connection } = this.#options;
    switch (frame.name) {
      case 'ready':
        this.#onReady();
        return;
      case 'send':
        this.#onSend(frame);
        return;
      case 'taken':
        this.#onTaken(readCount(frame.value, 'number'));
        return;
      case 'nodes':
        this.#searches.search(frame).catch((error: unknown) => this.#connection.refuse(error));
        return;
      case 'log':
        this.#onLog(frame);
        return;
      case 'finished':
        this.#end(readResult(frame));
        return;
      case 'failed':
        this.#end(readFailure(frame));
        return;
      default:
        // Frames of a newer runner that are unknown here have no effect.
        handleObjectFrame(connection, frame, this.#objects);
    }
  }

  #onReady(): void {
    if (this.#isReady) return;
    this.#isReady = true;
    this.#ready = this.#options.onReady();
    this.#connection.track(this.#ready);
    this.#answers.start(this.#ready);
  }

  #onSend(frame: Frame): void {
    if (this.#options.messages.size < maxUnanswered) this.#connection.track(this.#send(readSend(frame)));
    else this.#end({ failure: `at most ${maxUnanswered} messages may be open at the same time` });
  }

  #onTaken(number: number): void {
    this.#options.messages.take(number);
    this.#answers.taken(number);
  }

  #onLog(frame: Frame): void {
    const { clock, log } = this.#options;
    const { sequence, line } = readLogLine(frame, clock.now());
    this.#connection.track(
      this.#ready
        .then(() => (sequence <= log.serverSequence() ? undefined : log.append('server', [line], sequence)))
        .then(() => this.#connection.send('logged', { sequence: log.serverSequence() })),
    );
  }

  #end(outcome: ServerOutcome): void {
    if (this.#isOver) return;
    this.#isOver = true;
    void this.#connection.workDone().then(() => this.#options.onEnd(outcome));
  }

  async #send(sent: SentMessage): Promise<void> {
    const { messages, clock } = this.#options;
    // Looked up before any wait: a message whose answer the half takes meanwhile must not be sent as a new one.
    const before = messages.find(sent.number);
    await this.#ready;
    const createdAt = clock.now();
    const question: Question = {
      ...{ number: sent.number, node: sent.node ?? 0n, type: sent.type, group: sent.group },
      ...{ createdAt, expiresAt: createdAt + sent.ttlMs },
    };
    const accept = (): void => this.#connection.send('accepted', { number: sent.number });
    if (before) {
      await before.work.catch(() => undefined);
      if (before.status !== 'storing') {
        accept();
        return;
      }
    }
    const refusal = await this.#findRefusal(sent);
    try {
      await (refusal ? messages.refuse(question, refusal) : messages.send(question, sent.content));
      accept();
    } catch (error) {
      if (!isPassing(error)) throw error;
      // This answer is in memory only. After a restart the half sends the message again.
      messages.turnAway(question, 'STORE_FULL', toRollcallError(error).message);
    }
  }

  /** Why the message cannot be sent. */
  async #findRefusal({ node, content }: SentMessage): Promise<MessageErrorCode | undefined> {
    if (node === undefined) return 'NODE_NOT_FOUND';
    const problem = await this.#connection.whileOpen(() => this.#options.checkNode(node));
    return problem ?? ((await this.#objects.isStored(content)) ? undefined : 'OBJECT_LOST');
  }
}
