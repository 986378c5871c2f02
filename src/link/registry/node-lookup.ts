/** Finds nodes by what people call them: an id, a name, a fingerprint, or the beginning of one. */
import { RollcallError } from '../../base/errors.js';
import { cleanText } from '../../base/text.js';
import { findNodeId } from '../../identity/node-id.js';
import { defaultTenant } from '../../protocol/limits.js';
import type { Reads, Store } from '../../store/store.js';
import { certificateKey, decodeId, fingerprintKey, homeKey, nameKey, nodeKey } from './node-keys.js';
import { ambiguousNode, findIdsByPrefix } from './node-prefix.js';
import {
  decodeKnownCertificate,
  decodeNodeRecord,
  type KnownCertificate,
  type NodeRecord,
} from './node-record.js';
import type { PresenceOverlay } from './presence-overlay.js';

export class NodeLookup {
  readonly #store: Store;
  readonly #overlay: PresenceOverlay;

  constructor(store: Store, overlay: PresenceOverlay) {
    this.#store = store;
    this.#overlay = overlay;
  }

  /** As it is stored, without what waits in memory. */
  async findStored(tenant: string, id: bigint, reads: Reads = this.#store): Promise<NodeRecord | undefined> {
    const value = await reads.get(nodeKey(tenant, id));
    return value && decodeNodeRecord(value);
  }

  /** As it truly is. */
  async find(tenant: string, id: bigint, reads?: Reads): Promise<NodeRecord | undefined> {
    const record = await this.findStored(tenant, id, reads);
    return record && this.#overlay.view(record);
  }

  async tenantOf(id: bigint): Promise<string> {
    const home = await this.#store.get(homeKey(id));
    return home ? Buffer.from(home).toString() : defaultTenant;
  }

  async findByFingerprint(tenant: string, fingerprint: string): Promise<NodeRecord | undefined> {
    const id = await this.#store.get(fingerprintKey(tenant, fingerprint));
    return id && this.find(tenant, decodeId(id));
  }

  async findCertificate(fingerprint: string): Promise<KnownCertificate | undefined> {
    const value = await this.#store.get(certificateKey(fingerprint));
    return value && decodeKnownCertificate(value);
  }

  async findIdByText(tenant: string, text: string): Promise<bigint | undefined> {
    const said = findNodeId(text);
    if (said !== undefined) return said;
    const isFingerprint = text.startsWith('SHA256:');
    const id = await this.#store.get(isFingerprint ? fingerprintKey(tenant, text) : nameKey(tenant, text));
    return id && decodeId(id);
  }

  async resolve(tenant: string, text: string): Promise<NodeRecord> {
    const record = await this.#findByText(tenant, text);
    if (record) return record;
    throw unknownNode(text, 'name a node by its whole id, name or SHA256: fingerprint');
  }

  async resolveByPrefix(tenant: string, text: string): Promise<NodeRecord> {
    const record = await this.#findByText(tenant, text);
    if (record) return record;
    const ids = await findIdsByPrefix(this.#store, tenant, text);
    const found = await Promise.all(ids.map(id => this.find(tenant, id)));
    const nodes = found.filter(node => node !== undefined);
    if (nodes.length > 1) throw ambiguousNode(cleanText(text, 80), nodes);
    if (nodes[0]) return nodes[0];
    throw unknownNode(text, 'name a node by its id, its name or its SHA256: fingerprint');
  }

  async #findByText(tenant: string, text: string): Promise<NodeRecord | undefined> {
    const id = await this.findIdByText(tenant, text);
    return id === undefined ? undefined : this.find(tenant, id);
  }
}

function unknownNode(text: string, how: string): RollcallError {
  return new RollcallError('NODE_NOT_FOUND', `there is no node "${cleanText(text, 80)}"`, {
    hint: `${how}; \`rollcall nodes list\` shows them`,
  });
}
