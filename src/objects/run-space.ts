/** How much the objects of a run take on the disk, and which party wrote them. */
import { RollcallError } from '../base/errors.js';
import type { Account } from './bucket.js';

/** One node alone cannot fill a run: it may take at most as much as it leaves to the other nodes of their share. */
const nodesShare = 3 / 4;

export class RunSpace {
  readonly #maxBytes: number;
  #usedBytes = 0;
  #nodesBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  account(party: string): Account {
    const isNode = /^\d/.test(party);
    let ownBytes = 0;
    const add = (bytes: number): void => {
      this.#usedBytes += bytes;
      ownBytes += bytes;
      if (isNode) this.#nodesBytes += bytes;
    };
    const check = (bytes: number): void => {
      if (this.#usedBytes + bytes > this.#maxBytes)
        throw tooLarge(`the objects of this run would take more than ${this.#maxBytes} bytes`);
      const leftBytes = this.#maxBytes * nodesShare - this.#nodesBytes - bytes;
      if (isNode && ownBytes + bytes > leftBytes)
        throw tooLarge('the objects of this node would take more of the run than they leave to other nodes');
    };
    return {
      check,
      take(bytes) {
        check(bytes);
        add(bytes);
      },
      note: add,
      giveBack: bytes => add(-bytes),
    };
  }
}

function tooLarge(message: string): RollcallError {
  return new RollcallError('STORE_FULL', message, {
    hint: 'the operator of the link or of the node may give runs more: --object-space',
  });
}
