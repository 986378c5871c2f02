/** The sessions that are opening, and the live session of each node: at most one. */
import type { Session } from './session.js';

export class SessionTable {
  readonly #opening = new Set<Session>();
  readonly #live = new Map<bigint, Session>();
  readonly #liveByCertificate = new Map<string, Session>();

  get opening(): Iterable<Session> {
    return this.#opening;
  }

  /** May be changed while it is iterated. */
  get live(): Iterable<Session> {
    return this.#live.values();
  }

  get liveCount(): number {
    return this.#live.size;
  }

  /** Keeps the session as opening while the work runs. */
  async whileOpening(session: Session, work: () => Promise<void>): Promise<void> {
    this.#opening.add(session);
    try {
      await work();
    } finally {
      this.#opening.delete(session);
    }
  }

  liveOf(nodeId: bigint): Session | undefined {
    return this.#live.get(nodeId);
  }

  /** The live session that was opened with this certificate. */
  liveWith(fingerprint: string): Session | undefined {
    return this.#liveByCertificate.get(fingerprint);
  }

  /** Takes the place of the node's live session. */
  setLive(session: Session): void {
    const previous = this.#live.get(session.nodeId);
    if (previous) this.#liveByCertificate.delete(previous.certificate.fingerprint);
    this.#live.set(session.nodeId, session);
    this.#liveByCertificate.set(session.certificate.fingerprint, session);
  }

  /** Gives false for a session that is not the node's live one. */
  removeLive(session: Session): boolean {
    if (this.#live.get(session.nodeId) !== session) return false;
    this.#liveByCertificate.delete(session.certificate.fingerprint);
    return this.#live.delete(session.nodeId);
  }

  /** Opening ones and the live one. A session may be both for a moment. */
  ofNode(tenant: string, nodeId: bigint): ReadonlySet<Session> {
    const current = this.#live.get(nodeId);
    const candidates = [...this.#opening, ...(current ? [current] : [])];
    return new Set(candidates.filter(session => session.nodeId === nodeId && session.tenant === tenant));
  }

  /** The same for every node of a tenant. */
  ofTenant(tenant: string): ReadonlySet<Session> {
    const candidates = [...this.#opening, ...this.#live.values()];
    return new Set(candidates.filter(session => session.tenant === tenant));
  }
}
