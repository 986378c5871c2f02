/**
 * The connection on which a node reads and writes objects, beside that of its session and with the same certificate. It is
 * opened when the first transfer begins, and closed when none is under way for a while.
 */
import type { Clock, Timer } from '../base/clock.js';
import { isRollcallError, RollcallError } from '../base/errors.js';
import { onAbort } from '../base/wait.js';
import { fromLinkError } from '../protocol/link-error.js';
import { protocolVersions } from '../protocol/limits.js';
import type { LinkConnection, ReceivedFrame, SentFrame } from './connection.js';

/** Frames of a transfer. */
export type TransferFrame = Extract<
  ReceivedFrame,
  { $case: 'manifest' | 'piece' | 'missingChunks' | 'takePieces' | 'stored' | 'transferError' }
>;

/** A connection without a transfer is closed after this, ms. */
const idleMs = 30_000;

/** Opens transfers for as long as a session lives. */
export interface ObjectsLink {
  /** Rejects with LINK_UNREACHABLE or with what the link stated. */
  begin(signal?: AbortSignal): Promise<Transfer>;
}

export class ObjectConnections implements ObjectsLink {
  readonly #connect: () => Promise<LinkConnection>;
  readonly #clock: Clock;
  #current: Promise<ObjectConnection> | undefined;
  #isClosed = false;

  /** `connect` opens a connection with the certificate of the session. */
  constructor(connect: () => Promise<LinkConnection>, clock: Clock) {
    this.#connect = connect;
    this.#clock = clock;
  }

  async begin(signal?: AbortSignal): Promise<Transfer> {
    if (this.#isClosed) throw new RollcallError('LINK_UNREACHABLE', 'the session of these objects is over');
    const current = (this.#current ??= this.#open());
    const connection = await current;
    if (connection.isOver) {
      if (this.#current === current) this.#current = undefined;
      return this.begin(signal);
    }
    return connection.begin(signal);
  }

  close(): void {
    this.#isClosed = true;
    void this.#current?.then(connection => connection.close()).catch(() => undefined);
  }

  async #open(): Promise<ObjectConnection> {
    try {
      const connection = new ObjectConnection(await this.#connect(), this.#clock);
      if (this.#isClosed) connection.close();
      await connection.opened;
      return connection;
    } catch (error) {
      this.#current = undefined;
      throw error;
    }
  }
}

class ObjectConnection {
  /** Resolves when the link takes transfers. */
  readonly opened: Promise<void>;
  readonly #connection: LinkConnection;
  readonly #clock: Clock;
  readonly #transfers = new Map<number, Transfer>();
  #next = 1;
  #idle: Timer | undefined;
  #error: RollcallError | undefined;

  constructor(connection: LinkConnection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
    this.opened = new Promise((resolve, reject) => {
      connection.listen(frame => {
        if (frame.$case === 'objectsOpen') resolve();
        else if (isOfTransfer(frame)) this.#transfers.get(frame.value.transfer)?.receive(frame);
      });
      void connection.over.then(error => {
        this.#error = error;
        this.#idle?.cancel();
        reject(error);
        for (const transfer of this.#transfers.values()) transfer.fail(error);
        connection.destroy();
      });
    });
    connection.send({ $case: 'openObjects', value: { protocolVersion: protocolVersions[0] } });
  }

  get isOver(): boolean {
    return this.#error !== undefined;
  }

  begin(signal: AbortSignal | undefined): Transfer {
    this.#idle?.cancel();
    const number = this.#next;
    this.#next += 1;
    const transfer = new Transfer(number, this.#connection, signal, () => this.#ended(number));
    this.#transfers.set(number, transfer);
    return transfer;
  }

  close(): void {
    void this.#connection.close();
  }

  #ended(number: number): void {
    this.#transfers.delete(number);
    if (this.#transfers.size > 0 || this.#error) return;
    this.#idle = this.#clock.after(idleMs, () => this.close());
  }
}

function isOfTransfer(frame: ReceivedFrame): frame is TransferFrame {
  return ['manifest', 'piece', 'missingChunks', 'takePieces', 'stored', 'transferError'].includes(
    frame.$case,
  );
}

/** One object on its way, in one direction. */
export class Transfer {
  readonly number: number;
  readonly #connection: Pick<LinkConnection, 'send' | 'drained'>;
  readonly #received: TransferFrame[] = [];
  readonly #onEnd: () => void;
  readonly #forget: () => void;
  #error: unknown;
  #goOn: () => void = () => undefined;
  #isOver = false;

  constructor(
    number: number,
    connection: Pick<LinkConnection, 'send' | 'drained'>,
    signal: AbortSignal | undefined,
    onEnd: () => void,
  ) {
    this.number = number;
    this.#connection = connection;
    this.#onEnd = onEnd;
    this.#forget = onAbort(signal, () => {
      this.#received.length = 0;
      this.fail(new RollcallError('LINK_UNREACHABLE', 'the transfer was told to stop'));
    });
  }

  send(frame: SentFrame): boolean {
    return this.#connection.send(frame);
  }

  drained(): Promise<void> {
    return this.#connection.drained();
  }

  receive(frame: TransferFrame): void {
    if (frame.$case === 'transferError') {
      this.fail(frame.value.error ? fromLinkError(frame.value.error) : undefined);
      return;
    }
    if (this.#error !== undefined) return;
    this.#received.push(frame);
    this.#goOn();
  }

  fail(error: unknown): void {
    this.#error ??= isRollcallError(error)
      ? error
      : new RollcallError('PROTOCOL_INVALID', 'invalid reply of the link: an error without a code');
    this.#goOn();
  }

  /** The next frame of this transfer. */
  async next(): Promise<TransferFrame> {
    for (;;) {
      const frame = this.#received.shift();
      if (frame) return frame;
      if (this.#error !== undefined) throw this.#error as Error;
      await new Promise<void>(resolve => (this.#goOn = resolve));
    }
  }

  /** Frees its number, here and at the link. */
  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#forget();
    if (this.#error === undefined) this.send({ $case: 'endTransfer', value: { transfer: this.number } });
    this.#onEnd();
  }
}
