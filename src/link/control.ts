/**
 * What an operator may ask, once, for every door. A door decodes, calls one of these and encodes; who is asking has
 * been settled before.
 */
import type { Clock } from '../base/clock.js';
import { RollcallError, toRollcallError } from '../base/errors.js';
import { parseSpki } from '../identity/public-key.js';
import type { Enrollments } from './enrollment/enrollments.js';
import type { NodeRecord } from './registry/node-record.js';
import type { Registry } from './registry/registry.js';
import type { Sessions } from './sessions/sessions.js';

/** Who asks, once authenticated. */
export interface Principal {
  readonly tenant: string;
  /** As the audit shows it. */
  readonly name: string;
}

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
}

export interface ControlOptions {
  readonly registry: Registry;
  readonly sessions: Sessions;
  readonly enrollments: Enrollments;
  readonly clock: Clock;
  /** SPKI DER of the link's own keys: a node that used one would be the link. */
  readonly ownKeys: () => readonly Buffer[];
}

export type Control = ReturnType<typeof createControl>;

export function createControl({ registry, sessions, enrollments, clock, ownKeys }: ControlOptions) {
  return {
    async registerNode(principal: Principal, request: RegisterRequest): Promise<NodeRecord> {
      const publicKey = parseSpki(request.publicKey);
      if (ownKeys().some(key => key.equals(publicKey.spki))) {
        throw new RollcallError('REQUEST_INVALID', 'this is a key of the link itself, not of a node', {
          hint: 'register the public key that belongs to the private key of the node',
        });
      }
      const { name, labels, again } = request;
      return registry.registerNode({
        tenant: principal.tenant,
        publicKey,
        name,
        labels,
        again,
        by: principal.name,
      });
    },

    getNode: (principal: Principal, node: string) => registry.resolveNode(principal.tenant, node),

    listNodes: (principal: Principal, query: Parameters<Registry['listNodes']>[1]) =>
      registry.listNodes(principal.tenant, query),

    async listHistory(principal: Principal, node: string, query: Parameters<Registry['listHistory']>[2]) {
      const { id } = await registry.resolveNode(principal.tenant, node);
      return registry.listHistory(principal.tenant, id, query);
    },

    /**
     * Commits, then cuts: sessions, opening ones, enrollments in flight. What the store does not take is cut all the
     * same, and the caller is told that it is not durable yet.
     */
    async revokeNode(principal: Principal, reference: string, comment: string): Promise<Revocation> {
      const { tenant } = principal;
      const { id, fingerprint } = await registry.resolveNode(tenant, reference);
      const committing = registry.revokeNode(tenant, id, { by: principal.name, comment });
      const failure = await committing.then(() => undefined, toRollcallError);
      const start = clock.elapsed();
      const revoked = new RollcallError('NODE_REVOKED', 'this node was revoked by an operator');
      const ended = await Promise.all([
        sessions.endNode(tenant, id, revoked),
        enrollments.endKey(tenant, fingerprint, revoked),
      ]);
      if (failure) throw notDurable(failure);
      return {
        node: await committing,
        sessionsEnded: ended[0] + ended[1],
        closedAfterMs: clock.elapsed() - start,
      };
    },

    watchNodes: (principal: Principal, listener: (node: NodeRecord) => void) =>
      registry.watchNodes(principal.tenant, listener),
  };
}

/** What the operator hears when the node is out, but only until the link restarts. */
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
