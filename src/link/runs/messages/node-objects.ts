/**
 * The rights of nodes over the objects of runs, which the node port checks before it transfers a byte. Only a party of a run may
 * learn whether an object of it exists.
 */
import type { Manifest } from '../../../objects/manifest.js';
import type { ObjectBucket } from '../../../objects/object-store.js';

/** A node with a live session. */
export interface ReadingNode {
  readonly tenant: string;
  readonly nodeId: bigint;
}

export interface ReadableObject {
  readonly manifest: Manifest;
  readonly bucket: ObjectBucket;
}

export interface NodeObjects {
  /** Resolves to an object that this node may read; rejects with NOT_FOUND for any other, whether it exists or not. */
  read(node: ReadingNode, run: bigint, digest: string): Promise<ReadableObject>;
  /** Resolves to the bucket that this node may write to; rejects with NOT_FOUND for a run of other nodes. */
  write(node: ReadingNode, run: bigint): Promise<ObjectBucket>;
}
