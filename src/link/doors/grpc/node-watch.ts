/**
 * The changes of nodes that one reader is sent. A reader that keeps up is sent each change. One that is behind gets no
 * backlog: of what has changed meanwhile only the ids are kept, so many at most, and it is sent those nodes as they are once
 * it reads on; beyond that number it is sent all nodes as they are.
 */
import { isRollcallError } from '../../../base/errors.js';
import type { NodeEvent } from '../../../protocol/generated/rollcall/v1/control.js';
import type { Principal } from '../../access/principal.js';
import type { Control } from '../../control.js';
import type { NodeRecord } from '../../registry/node-record.js';
import { encodeEvent, toNodeEvent } from './control-codec.js';

/** Of a stream with a reader; src/link/doors/grpc/reader-pace.ts. */
export interface NodeReader {
  readonly hasRoom: boolean;
  isOver(): boolean;
  write(event: NodeEvent, bytes: number): void;
  room(): Promise<void>;
}

export interface NodeWatchOptions {
  readonly control: Pick<Control, 'getNode' | 'listNodes'>;
  readonly reader: NodeReader;
  readonly principal: Principal;
  /** The reason why nothing can be sent to the reader. */
  readonly onFailure: (error: unknown) => void;
}

/** Ids kept of a reader that is behind. */
export const maxBehind = 1_000;
/** Nodes read at once to tell of all. */
const pageSize = 200;

export class NodeWatch {
  readonly #control: NodeWatchOptions['control'];
  readonly #reader: NodeReader;
  readonly #principal: Principal;
  readonly #onFailure: (error: unknown) => void;
  /** Nodes that have changed since they were sent to the reader. */
  readonly #behind = new Set<bigint>();
  /** The progress of sending all nodes; undefined while that is not needed. */
  #pageToken: string | undefined;
  /** All are to be told once more after that. */
  #isAllDue = false;
  #isTelling = false;

  constructor({ control, reader, principal, onFailure }: NodeWatchOptions) {
    this.#control = control;
    this.#reader = reader;
    this.#principal = principal;
    this.#onFailure = onFailure;
  }

  changed(node: NodeRecord): void {
    if (this.#reader.isOver()) return;
    if (!this.#isTelling && this.#reader.hasRoom) {
      this.#write(node);
      return;
    }
    if (!this.#isAllDue) this.#behind.add(node.id);
    if (this.#behind.size > maxBehind) {
      this.#behind.clear();
      this.#isAllDue = true;
    }
    this.#tell();
  }

  /** How every node is, once. */
  tellAll(): void {
    this.#isAllDue = true;
    this.#tell();
  }

  #tell(): void {
    if (this.#isTelling) return;
    this.#isTelling = true;
    this.#tellRest().catch(this.#onFailure);
  }

  async #tellRest(): Promise<void> {
    try {
      for (;;) {
        await this.#reader.room();
        if (this.#reader.isOver()) return;
        if (this.#pageToken !== undefined) await this.#tellPage(this.#pageToken);
        else if (this.#isAllDue) {
          this.#isAllDue = false;
          this.#pageToken = '';
        } else {
          const [id] = this.#behind;
          if (id === undefined) return;
          this.#behind.delete(id);
          await this.#tellOne(id);
        }
      }
    } finally {
      this.#isTelling = false;
    }
  }

  async #tellPage(pageToken: string): Promise<void> {
    const page = await this.#control.listNodes(this.#principal, { pageSize, pageToken });
    for (const node of page.nodes) {
      await this.#reader.room();
      // Changes since the page was read are newer than the page, and sent after it.
      if (!this.#behind.has(node.id)) this.#write(node);
    }
    this.#pageToken = page.nextPageToken === '' ? undefined : page.nextPageToken;
  }

  async #tellOne(id: bigint): Promise<void> {
    try {
      this.#write(await this.#control.getNode(this.#principal, `${id}`));
    } catch (error) {
      // Not there any more, or not theirs.
      if (!isRollcallError(error, 'NODE_NOT_FOUND') && !isRollcallError(error, 'NOT_ALLOWED')) throw error;
    }
  }

  #write(node: NodeRecord): void {
    const event = toNodeEvent(node);
    this.#reader.write(event, encodeEvent(event).length);
  }
}
