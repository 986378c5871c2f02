/**
 * The transfers of a connection for objects. Each goes in pieces that its reader has asked for, so that the link holds a few
 * pieces of it, whatever the size of the object. A transfer on which nothing moves is ended, and a transfer whose session
 * is over; a node that comes back goes on where it stopped.
 */
import type { Clock, Timer } from '../../../base/clock.js';
import { isRollcallError, RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { digestBytes } from '../../../objects/manifest.js';
import type {
  LinkFrame,
  NodeFrame,
  Piece,
  ReadObject,
  WriteObject,
} from '../../../protocol/generated/rollcall/v1/link.js';
import { toLinkError } from '../../../protocol/link-error.js';
import { limits } from '../../../protocol/limits.js';
import type { NodeObjects } from '../../runs/messages/node-objects.js';
import type { Session } from '../../sessions/session.js';
import { logFault, publicError } from '../public-error.js';
import { ObjectUpload } from './object-upload.js';

type SentFrame = NonNullable<LinkFrame['frame']>;
type ReceivedFrame = NonNullable<NodeFrame['frame']>;

/** A connection without a transfer for so long is closed, ms. */
const idleMs = 60_000;
/** A transfer on which no piece moves for so long is over, ms. */
const stillMs = 30_000;

export interface ObjectTransfersOptions {
  /** The session in which the objects are read and written. */
  readonly session: Session;
  readonly objects: NodeObjects;
  readonly clock: Clock;
  readonly log: Log;
  readonly send: (frame: SentFrame) => void;
  /** There was no transfer for a minute. */
  readonly onIdle: () => void;
}

export class ObjectTransfers {
  readonly #options: ObjectTransfersOptions;
  readonly #transfers = new Map<number, Transfer>();

  #idle: Timer;
  #isClosed = false;

  constructor(options: ObjectTransfersOptions) {
    this.#options = options;
    this.#idle = this.#waitForTransfer();
  }

  /** Throws PROTOCOL_INVALID for a frame that has no place on this connection. */
  receive(frame: ReceivedFrame): void {
    switch (frame.$case) {
      case 'readObject': {
        this.#begin(frame.value.transfer, new Reading(frame.value, this.#options));
        return;
      }
      case 'writeObject': {
        this.#begin(frame.value.transfer, new Writing(frame.value, this.#options));
        return;
      }
      // The node may not know yet that a transfer is over.
      case 'takePieces':
        return this.#transfers.get(frame.value.transfer)?.allow(frame.value.pieces);
      case 'piece':
        return this.#transfers.get(frame.value.transfer)?.take(frame.value);
      case 'endTransfer':
        return this.#transfers.get(frame.value.transfer)?.close();
      default:
        throw new RollcallError(
          'PROTOCOL_INVALID',
          `${frame.$case} has no place on a connection for objects`,
        );
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#idle.cancel();
    for (const transfer of this.#transfers.values()) transfer.close();
  }

  #waitForTransfer(): Timer {
    return this.#options.clock.after(idleMs, () => this.#options.onIdle());
  }

  #begin(number: number, transfer: Transfer): void {
    if (this.#transfers.has(number))
      throw new RollcallError('PROTOCOL_INVALID', `transfer ${number} is under way already`);
    if (this.#transfers.size >= limits.transfersPerConnection)
      throw new RollcallError(
        'PROTOCOL_INVALID',
        `at most ${limits.transfersPerConnection} transfers at once`,
      );
    this.#transfers.set(number, transfer);
    this.#idle.cancel();
    transfer
      .run()
      .catch((error: unknown) => {
        logFault(this.#options.log, error, transfer.doing);
        this.#options.send({
          $case: 'transferError',
          value: { transfer: number, error: toLinkError(publicError(error)) },
        });
      })
      .finally(() => {
        this.#transfers.delete(number);
        if (this.#transfers.size === 0 && !this.#isClosed) this.#idle = this.#waitForTransfer();
      });
  }
}

interface Transfer {
  /** For the log: "reading an object". */
  readonly doing: string;
  /** Resolves when nothing more is to be done or it was closed. */
  run(): Promise<void>;
  allow(pieces: number): void;
  take(piece: Piece): void;
  close(): void;
}

/** Waits for the next thing to happen, no longer than `stillMs`. */
class Turn {
  readonly #clock: Clock;
  #goOn: () => void = () => undefined;
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async wait(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#goOn = resolve;
      this.#timer = this.#clock.after(stillMs, () =>
        reject(new RollcallError('DEADLINE_EXCEEDED', 'nothing of the object moved in time')),
      );
    });
  }

  happened(): void {
    this.#timer?.cancel();
    this.#goOn();
  }
}

function requireLive({ session }: ObjectTransfersOptions): Session {
  if (session.ended === undefined) return session;
  if (isRollcallError(session.ended)) throw session.ended;
  throw new RollcallError('CERTIFICATE_REFUSED', 'the session of these objects is over');
}

class Reading implements Transfer {
  readonly doing = 'reading an object';
  readonly #request: ReadObject;
  readonly #options: ObjectTransfersOptions;
  readonly #turn: Turn;
  #allowed: number;
  #isOver = false;

  constructor(request: ReadObject, options: ObjectTransfersOptions) {
    if (request.digest.length !== digestBytes) throw new RollcallError('PROTOCOL_INVALID', 'invalid digest');
    this.#request = request;
    this.#options = options;
    this.#turn = new Turn(options.clock);
    this.#allowed = Math.min(request.pieces, limits.piecesAhead);
  }

  async run(): Promise<void> {
    const { objects, send } = this.#options;
    const { transfer, run, digest, fromChunk } = this.#request;
    const { manifest, bucket } = await objects.read(requireLive(this.#options), run, digest.toString('hex'));
    if (fromChunk > manifest.chunks.length)
      throw new RollcallError('PROTOCOL_INVALID', 'the object has fewer chunks');
    if (this.#isOver) return;
    send({ $case: 'manifest', value: { transfer, manifest: manifest.bytes } });
    for (let chunk = fromChunk; chunk < manifest.chunks.length; chunk++) {
      for await (const bytes of bucket.readPieces(manifest, chunk, limits.pieceBytes)) {
        if (!(await this.#mayGoOn())) return;
        this.#allowed -= 1;
        send({ $case: 'piece', value: { transfer, chunk, bytes } });
      }
    }
  }

  /** Waits until a piece was asked for; gives false when the transfer was closed. */
  async #mayGoOn(): Promise<boolean> {
    while (this.#allowed === 0 && !this.#isOver) await this.#turn.wait();
    requireLive(this.#options);
    return !this.#isOver;
  }

  allow(pieces: number): void {
    this.#allowed = Math.min(this.#allowed + pieces, limits.piecesAhead);
    this.#turn.happened();
  }

  take(): void {
    throw new RollcallError('PROTOCOL_INVALID', 'a piece of an object that this side sends');
  }

  close(): void {
    this.#isOver = true;
    this.#turn.happened();
  }
}

class Writing implements Transfer {
  readonly doing = 'writing an object';
  readonly #request: WriteObject;
  readonly #options: ObjectTransfersOptions;
  readonly #turn: Turn;
  readonly #pieces: Piece[] = [];
  /** Pieces that the node may still send. */
  #allowed = 0;
  #isOver = false;

  constructor(request: WriteObject, options: ObjectTransfersOptions) {
    this.#request = request;
    this.#options = options;
    this.#turn = new Turn(options.clock);
  }

  async run(): Promise<void> {
    const { objects, send, log } = this.#options;
    const { transfer, run, manifest } = this.#request;
    const upload = new ObjectUpload(await objects.write(requireLive(this.#options), run), manifest);
    try {
      const missing = await upload.begin();
      if (missing.length > 0) {
        this.#allowed = limits.piecesAhead;
        send({
          $case: 'missingChunks',
          value: { transfer, chunks: [...missing], pieces: this.#allowed },
        });
        await this.#takeAll(upload);
      }
      if (!this.#isOver) send({ $case: 'stored', value: { transfer } });
    } finally {
      await upload.discard().catch((error: unknown) => logFault(log, error, 'giving up an object'));
    }
  }

  allow(): void {
    throw new RollcallError('PROTOCOL_INVALID', 'pieces were asked for of an object that the node sends');
  }

  take(piece: Piece): void {
    if (this.#allowed === 0)
      throw new RollcallError('PROTOCOL_INVALID', 'more pieces than the link has asked for');
    this.#allowed -= 1;
    this.#pieces.push(piece);
    this.#turn.happened();
  }

  close(): void {
    this.#isOver = true;
    this.#turn.happened();
  }

  async #takeAll(upload: ObjectUpload): Promise<void> {
    const { transfer } = this.#request;
    for (let taken = 1; ; taken += 1) {
      const piece = await this.#next();
      if (!piece || (await upload.take(piece.chunk, piece.bytes))) return;
      if (taken % (limits.piecesAhead / 2) > 0) continue;
      const pieces = limits.piecesAhead / 2;
      this.#allowed += pieces;
      this.#options.send({ $case: 'takePieces', value: { transfer, pieces } });
    }
  }

  /** Undefined when the transfer was closed. */
  async #next(): Promise<Piece | undefined> {
    while (!this.#isOver) {
      requireLive(this.#options);
      const piece = this.#pieces.shift();
      if (piece) return piece;
      await this.#turn.wait();
    }
    return undefined;
  }
}
