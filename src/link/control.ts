/**
 * The operations on nodes, once, for every door. A door decodes, calls one of these and encodes; who is asking has
 * been settled before.
 */
import type { Clock } from '../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../base/errors.js';
import { parseSpki } from '../identity/public-key.js';
import {
  actorOf,
  isOwn,
  may,
  notAllowed,
  ownerName,
  requirePermission,
  type Principal,
} from './access/principal.js';
import type { Permission } from './access/permissions.js';
import type { Enrollments } from './enrollment/enrollments.js';
import { NodeFeed } from './registry/node-feed.js';
import type { NodeRecord } from './registry/node-record.js';
import type { Registry } from './registry/registry.js';
import type { Sessions } from './sessions/sessions.js';

export interface RegisterRequest {
  /** SPKI DER. */
  readonly publicKey: Uint8Array;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly again: boolean;
}

export interface Revocation {
  readonly node: NodeRecord;
  /** Sessions and enrollments in flight that were ended. */
  readonly sessionsEnded: number;
  /** From the durable commit to the last socket closed, ms. */
  readonly closedAfterMs: number;
  /** It was revoked before this was asked. */
  readonly alreadyRevoked: boolean;
}

export type Deletion = Pick<Revocation, 'node' | 'sessionsEnded'>;

export interface ControlOptions {
  readonly registry: Registry;
  readonly sessions: Sessions;
  readonly enrollments: Enrollments;
  readonly clock: Clock;
  /** SPKI DER of the link's own keys: a node that used one would be the link. */
  readonly ownKeys: () => readonly Buffer[];
}

export class Control {
  readonly #options: ControlOptions;
  readonly #feed: NodeFeed;

  constructor(options: ControlOptions) {
    this.#options = options;
    this.#feed = new NodeFeed(this.#options.registry);
  }

  async registerNode(principal: Principal, request: RegisterRequest): Promise<NodeRecord> {
    const publicKey = parseSpki(request.publicKey);
    if (this.#options.ownKeys().some(key => key.equals(publicKey.spki))) {
      throw new RollcallError('REQUEST_INVALID', 'this is a key of the link itself, not of a node', {
        hint: 'register the public key that belongs to the private key of the node',
      });
    }
    const { name, labels, again } = request;
    return this.#options.registry.registerNode({
      tenant: principal.tenant,
      publicKey,
      name,
      labels,
      again,
      owner: ownerName(principal),
      by: actorOf(principal),
    });
  }

  getNode(principal: Principal, node: string) {
    return this.#getNode(principal, node, 'nodes:read');
  }

  async listNodes(principal: Principal, query: Parameters<Registry['listNodes']>[1]) {
    this.#requireSight(principal);
    const { tenant } = principal;
    if (may(principal, 'nodes:read')) return this.#options.registry.listNodes(tenant, query);
    const owner = { name: ownerName(principal), since: principal.accountSince };
    return this.#options.registry.listNodes(tenant, { ...query, owner });
  }

  async listHistory(principal: Principal, node: string, query: Parameters<Registry['listHistory']>[2]) {
    const { id } = await this.#getNode(principal, node, 'nodes:read');
    return this.#options.registry.listHistory(principal.tenant, id, query);
  }

  /**
   * Commits, then cuts: sessions, opening ones, enrollments in flight. What the store cannot read or does not take is
   * cut all the same, and the caller is told that it is not durable yet.
   */
  async revokeNode(principal: Principal, reference: string, comment: string): Promise<Revocation> {
    const { tenant } = principal;
    const { id, fingerprint, status } = await this.#findTarget(principal, reference);
    const committing = this.#options.registry.revokeNode(tenant, id, { by: actorOf(principal), comment });
    const failure = await committing.then(() => undefined, toRollcallError);
    const start = this.#options.clock.elapsed();
    const revoked = new RollcallError('NODE_REVOKED', 'this node was revoked by an operator');
    const ended = await Promise.all([
      this.#options.sessions.endNode(tenant, id, revoked),
      fingerprint === undefined ? 0 : this.#options.enrollments.endKey(tenant, fingerprint, revoked),
    ]);
    if (failure) throw notDurable(failure);
    return {
      node: await committing,
      sessionsEnded: ended[0] + ended[1],
      closedAfterMs: this.#options.clock.elapsed() - start,
      alreadyRevoked: status === 'revoked',
    };
  }

  /** A node that is not revoked yet is revoked first, in a commit of its own: asked again, it goes on from there. */
  async deleteNode(principal: Principal, reference: string): Promise<Deletion> {
    const { tenant } = principal;
    const { id } = await this.#getNode(principal, reference, 'nodes:revoke', true);
    const { sessionsEnded } = await this.revokeNode(principal, `${id}`, 'deleted');
    return { node: await this.#options.registry.deleteNode(tenant, id, actorOf(principal)), sessionsEnded };
  }

  watchNodes(principal: Principal, listener: (node: NodeRecord) => void) {
    this.#requireSight(principal);
    return this.#feed.listen(principal.tenant, node => {
      if (may(principal, 'nodes:read') || this.#owns(principal, node)) listener(node);
    });
  }

  /** Throws when a principal that began to watch as `before` may not go on with it now. */
  requireWatch(now: Principal, before: Principal): void {
    if (may(before, 'nodes:read')) requirePermission(now, 'nodes:read');
    else this.#requireSight(now);
  }

  /** The node that asks, by its own id. */
  async getOwnNode({ tenant }: Principal, id: string): Promise<NodeRecord> {
    return this.#options.registry.resolveNode(tenant, id);
  }

  /** A principal that may register nodes may act on those it registered; a token cut down to reading may not. */
  #owns(principal: Principal, node: NodeRecord): boolean {
    return may(principal, 'nodes:register') && isOwn(principal, node.owner, node.registeredAt);
  }

  #requireSight(principal: Principal): void {
    if (!may(principal, 'nodes:read') && !may(principal, 'nodes:register')) throw notAllowed('nodes:read');
  }

  /** Without the permission only one's own nodes are there, and a beginning would tell of others. */
  async #getNode(
    principal: Principal,
    reference: string,
    seeing: Permission,
    isWhole = false,
  ): Promise<NodeRecord> {
    const { tenant } = principal;
    if (may(principal, seeing) && !isWhole)
      return this.#options.registry.resolveNodeByPrefix(tenant, reference);
    if (may(principal, seeing)) return this.#options.registry.resolveNode(tenant, reference);
    const node = await this.#options.registry.resolveNode(tenant, reference).catch((error: unknown) => {
      if (isRollcallError(error, 'NODE_NOT_FOUND')) return undefined;
      throw error;
    });
    // The same answer for what is not there and what is not one's own: neither says which nodes there are.
    if (!node || !this.#owns(principal, node)) throw notAllowed(seeing);
    return node;
  }

  /** A node that is to be cut off: its id is enough where its record cannot be read. */
  async #findTarget(
    principal: Principal,
    reference: string,
  ): Promise<Pick<NodeRecord, 'id'> & Partial<Pick<NodeRecord, 'fingerprint' | 'status'>>> {
    try {
      // Whole: a beginning that is one node's today would cut off another tomorrow.
      return await this.#getNode(principal, reference, 'nodes:revoke', true);
    } catch (error) {
      const id =
        may(principal, 'nodes:revoke') && isUnreadable(error)
          ? await this.#findId(principal, reference)
          : undefined;
      if (id === undefined) throw error;
      return { id };
    }
  }

  /** By an index, or as it was said; undefined where that cannot be read either. */
  #findId(principal: Principal, reference: string): Promise<bigint | undefined> {
    return this.#options.registry.findNodeIdByText(principal.tenant, reference).catch(() => undefined);
  }
}

function isUnreadable(error: unknown): boolean {
  return isRollcallError(error, 'STORE_UNAVAILABLE') || isRollcallError(error, 'INTERNAL');
}

/** The error of a revocation that holds only until the link restarts. */
function notDurable(failure: RollcallError): RollcallError {
  if (failure.code !== 'STORE_FULL' && failure.code !== 'STORE_UNAVAILABLE') return failure;
  return new RollcallError(
    failure.code,
    `the node is cut off, but that could not be stored: ${failure.message}`,
    {
      hint: 'mend the store and leave the link running: it writes the revocation then; or revoke the node again',
      cause: failure,
    },
  );
}
