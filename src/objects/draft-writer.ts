/** Writes one chunk of a bucket: the pieces go into a draft, which becomes the chunk when all of them have come. */
import { RollcallError } from '../base/errors.js';
import { createKeyedQueue } from '../base/keyed-queue.js';
import type { ChunkDraft } from './chunk-file.js';

/** A chunk on its way to the disk. */
export interface ChunkWriter {
  /** Pieces in order. PROTOCOL_INVALID for more than the chunk has. */
  write(bytes: Uint8Array): Promise<void>;
  /** The chunk is there when this resolves. PROTOCOL_INVALID when these bytes are not the chunk. */
  finish(): Promise<void>;
  /** Leaves nothing behind. Does nothing after `finish`, or a second time. */
  discard(): Promise<void>;
}

/** The part of a bucket that a draft uses. */
export interface DraftOwner {
  /** False when the chunk is there already and the draft is not needed. */
  keep(): Promise<boolean>;
  /** The disk space of the draft is free again. */
  giveBack(): void;
}

export class DraftWriter implements ChunkWriter {
  readonly #draft: ChunkDraft;
  readonly #owner: DraftOwner;
  readonly #turns = createKeyedQueue();
  #isOver = false;

  constructor(draft: ChunkDraft, owner: DraftOwner) {
    this.#draft = draft;
    this.#owner = owner;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#inTurn(async () => (this.#isOver ? undefined : this.#draft.append(bytes)));
  }

  finish(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#isOver) throw new RollcallError('PROTOCOL_INVALID', 'the chunk was given up');
      if (await this.#owner.keep()) this.#isOver = true;
      else await this.#discard();
    });
  }

  discard(): Promise<void> {
    return this.#inTurn(() => this.#discard());
  }

  async #discard(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#owner.giveBack();
    await this.#draft.discard();
  }

  /** One call after the other: a write that is under way must not bring a discarded draft back. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    return this.#turns('draft', work);
  }
}
