/**
 * The objects that a server half reads and writes on one connection. It may read the objects of its answers. The objects that it
 * wrote last are kept (leased) although no message refers to them yet.
 */
import type { ObjectsOfRunner } from '../../../app-host/wire/object-frames.js';
import type { Manifest } from '../../../objects/manifest.js';
import type { ObjectBucket } from '../../../objects/object-store.js';
import type { Content } from '../messages/message-record.js';
import type { RunMessages } from '../messages/run-messages.js';
import type { ServerConnection } from './server-connection.js';

export interface ServerObjectsOptions {
  readonly connection: ServerConnection;
  readonly messages: RunMessages;
  readonly own: ObjectBucket;
  /** The objects of a node, whose answers may refer to them. */
  readonly bucketOf: (node: bigint) => ObjectBucket;
}

const maxLeases = 4;

export class ServerObjects implements ObjectsOfRunner {
  readonly writable: ObjectBucket;
  readonly #options: ServerObjectsOptions;
  /** Digests of leased objects, oldest first. */
  readonly #leases: string[] = [];

  constructor(options: ServerObjectsOptions) {
    this.#options = options;
    this.writable = options.own;
  }

  // Functions, not methods: the handler of object frames calls them without `this`.
  readonly readable: ObjectsOfRunner['readable'] = async digest => {
    const { messages, bucketOf } = this.#options;
    const node = messages.speaksOf(digest, 'answers');
    const bucket = node === undefined ? undefined : bucketOf(node);
    const manifest = await bucket?.find(digest);
    return bucket && manifest ? { manifest, bucket } : undefined;
  };

  readonly onStored = ({ digest }: Manifest): void => {
    const { connection, own } = this.#options;
    own.retain(digest);
    this.#leases.push(digest);
    if (this.#leases.length > maxLeases) connection.track(own.release(this.#leases.shift() ?? ''));
  };

  /** Whether the content of a message can be sent. */
  async isStored(content: Content): Promise<boolean> {
    if ('bytes' in content) return true;
    const { connection, own } = this.#options;
    const { digest, sizeBytes } = content.object;
    const manifest = await connection.whileOpen(() => own.find(digest));
    return manifest?.sizeBytes === sizeBytes;
  }

  /** Gives up the leases. */
  close(): void {
    for (const digest of this.#leases.splice(0))
      void this.#options.own.release(digest).catch(() => undefined);
  }
}
