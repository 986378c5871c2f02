/** Writing a node's public key: every key once, every name once, a revoked key again only deliberately. */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import { randomNodeId } from '../../identity/node-id.js';
import type { PublicKey } from '../../identity/public-key.js';
import type { Actor, Audit } from '../audit/audit.js';
import { defaultTenant } from '../../protocol/limits.js';
import type { Change, Expectation, Store, Value } from '../../store/store.js';
import { expectTenant } from '../tenant-mark.js';
import { checkLabels, checkName } from './labels.js';
import { decodeId, fingerprintKey, homeKey, nameKey, nodeKey } from './node-keys.js';
import { decodeNodeRecord, type NodeRecord } from './node-record.js';
import { registeredNode } from './node-machine.js';
import { changesOf, isStoreFailure } from './transitions.js';

export interface RegistrationRequest {
  readonly tenant: string;
  readonly publicKey: PublicKey;
  /** Empty or absent for none, or with `again` for the one that the key had. */
  readonly name?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Register a revoked key again, as a new node. */
  readonly again?: boolean | undefined;
  /** The owner of the node; empty for none. */
  readonly owner?: string | undefined;
  /** The actor, for the audit log. */
  readonly by: Actor;
}

export interface RegistrationOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  /** Writes what waits in memory of a node, such as its revocation; rejects when the store does not take it. */
  readonly writeWaiting: (node: { readonly tenant: string; readonly id: bigint }) => Promise<void>;
  /** A commit failed that may be found written later. */
  readonly onDoubt: () => void;
}

/** Each try reads anew and finds who was faster; only ids drawn twice are left. */
const maxTries = 10;

function alreadyRegistered({ id, name, status }: NodeRecord): RollcallError {
  const node = name === '' ? `node ${id}` : `node ${id} (${name})`;
  return status === 'revoked'
    ? new RollcallError('NODE_ALREADY_REGISTERED', `this key belonged to ${node}, which was revoked`, {
        hint: 'to register it all the same, as a new node, add --again',
      })
    : new RollcallError('NODE_ALREADY_REGISTERED', `this key is registered already, as ${node}`, {
        hint: `\`rollcall nodes show ${id}\` shows it`,
      });
}

/** A node that was found, and the expectations of the commit. */
interface Found {
  readonly node: NodeRecord | undefined;
  readonly expectations: readonly Expectation[];
}

interface Held {
  /** The revoked node that had this key. */
  readonly before: NodeRecord | undefined;
  readonly expectations: readonly Expectation[];
}

interface Kept {
  readonly name: string;
  readonly expectations: readonly Expectation[];
}

export class Registration {
  readonly #options: RegistrationOptions;

  constructor(options: RegistrationOptions) {
    this.#options = options;
  }

  /** Registers a key; when this resolves, the node is on the disk. */
  async registerNode(request: RegistrationRequest): Promise<NodeRecord> {
    checkName(request.name ?? '');
    checkLabels(request.labels ?? {});
    for (let tries = 1; ; tries++) {
      try {
        return await this.#register(request);
      } catch (error) {
        if (isStoreFailure(error)) this.#options.onDoubt();
        if (!isRollcallError(error, 'STORE_CONFLICT') || tries >= maxTries) throw error;
      }
    }
  }

  /** Reads an index entry and the node it names. */
  async #findHolder(tenant: string, key: string): Promise<{ node?: NodeRecord; value: Value | undefined }> {
    const value = await this.#options.store.get(key);
    if (!value) return { value };
    const id = decodeId(value);
    await this.#options.writeWaiting({ tenant, id });
    const stored = await this.#options.store.get(nodeKey(tenant, id));
    if (!stored) {
      // Deleted in between, together with the entry.
      const again = await this.#options.store.get(key);
      if (!again || decodeId(again) !== id) return this.#findHolder(tenant, key);
      throw new RollcallError('INTERNAL', 'an index names a node that is not there');
    }
    return { node: decodeNodeRecord(stored), value };
  }

  /** The key must be free, or its node revoked and `again` said; gives what must stay so until the commit. */
  async #checkKey({ tenant, publicKey, again }: RegistrationRequest): Promise<Held> {
    const key = fingerprintKey(tenant, publicKey.fingerprint);
    const { node, value } = await this.#findHolder(tenant, key);
    if (node && (node.status !== 'revoked' || !again)) throw alreadyRegistered(node);
    return { before: node, expectations: [{ key, value }] };
  }

  async #checkNameIsFree(tenant: string, name: string): Promise<readonly Expectation[]> {
    const { node, expectations } = await this.#findName(tenant, name);
    // A revoked node stays one, so that only the index must not change until the commit.
    if (!node || node.status === 'revoked') return expectations;
    throw new RollcallError('NODE_NAME_TAKEN', `the name ${name} is taken by node ${node.id}`, {
      hint: 'choose another name; revoking that node would free it',
    });
  }

  async #findName(tenant: string, name: string): Promise<Found> {
    if (name === '') return { node: undefined, expectations: [] };
    const key = nameKey(tenant, name);
    const { node, value } = await this.#findHolder(tenant, key);
    return { node, expectations: [{ key, value }] };
  }

  /** A key that comes again keeps the name it had, unless another node has taken it meanwhile. */
  async #keepName(tenant: string, before: NodeRecord | undefined): Promise<Kept> {
    const name = before?.name ?? '';
    const { node, expectations } = await this.#findName(tenant, name);
    return node?.id === before?.id ? { name, expectations } : { name: '', expectations };
  }

  async #register(request: RegistrationRequest): Promise<NodeRecord> {
    const { tenant, publicKey, labels = {}, owner = '', by } = request;
    const { spki, fingerprint } = publicKey;
    const ofTenant = await expectTenant(this.#options.store, tenant);
    const held = await this.#checkKey(request);
    const given = request.name ?? '';
    const { name, expectations: ofName } =
      given === ''
        ? await this.#keepName(tenant, held.before)
        : { name: given, expectations: await this.#checkNameIsFree(tenant, given) };
    const expectations = [ofTenant, ...held.expectations, ...ofName];
    const id = randomNodeId(this.#options.random);
    const fields = { id, tenant, name, owner, labels: { ...labels }, spki: Buffer.from(spki), fingerprint };
    const {
      record,
      history,
      audit: events,
    } = registeredNode({ ...fields, registeredAt: this.#options.clock.now() }, by);
    const after = { record, history: history ? [history] : [], audit: events };
    const home: Change[] =
      tenant === defaultTenant ? [] : [{ type: 'put', key: homeKey(id), value: Buffer.from(tenant) }];
    // An id is one node's in the whole link, whichever tenant drew it.
    await this.#options.store.commit(
      [...home, ...changesOf(this.#options.audit, undefined, after)],
      [
        ...expectations,
        { key: nodeKey(tenant, id), value: undefined },
        { key: nodeKey(defaultTenant, id), value: undefined },
        { key: homeKey(id), value: undefined },
      ],
    );
    return record;
  }
}
