/**
 * Which objects a node may read, and where it may write: what the node port asks before a byte moves. Anyone who answers tells
 * nobody but a party of the run whether an object is there.
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
  /** Where an object that this node may read lies; NOT_FOUND for all else, whether it exists or not. */
  read(node: ReadingNode, run: bigint, digest: string): Promise<ReadableObject>;
  /** Where this node may write for this run; NOT_FOUND. */
  write(node: ReadingNode, run: bigint): Promise<ObjectBucket>;
}
