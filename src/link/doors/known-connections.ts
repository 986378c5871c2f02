/**
 * Connections of the control port on which somebody has shown a good token. They do not count as strangers' any more, so
 * they have bounds of their own: so many of one principal, so many from one network, and an end when nothing was asked
 * for a while, when the right to ask anything is gone, and when the peer of a call that lasts is not there any more.
 */
import type { Clock, Timer } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { Shares } from '../../base/shares.js';
import { partyOf, type Principal } from '../access/principal.js';
import type { HeldRights, LetGo } from './held-rights.js';
import type { Connection } from './tls/connection.js';

export const knownBounds = { perPrincipal: 64, perNetwork: 1_024 } as const;

/** Programs ask, think and ask again; an operator's command is gone by then, ms. */
export const knownIdleMs = 5 * 60_000;
const sweepEveryMs = 5_000;
/** Peers with open calls are pinged so often, ms, */
const pingEveryMs = 60_000;
/** and are gone when they have sent nothing after so many. */
export const maxUnansweredPings = 4;

/** By which a connection is judged while nothing is asked on it. */
export interface Recognition {
  /** The changes of rights before the principal was found to have them. */
  readonly since: number;
  /** Throws when its token is refused. */
  readonly judge: () => Promise<unknown>;
}

interface Known {
  readonly party: string;
  readonly tokenId: string;
  readonly letGo: LetGo | undefined;
  bytesRead: number;
  unansweredPings: number;
}

export class KnownConnections {
  readonly #rights: HeldRights;
  readonly #connections = new Map<Connection, Known>();
  /** Connections whose end is observed. */
  readonly #heard = new WeakSet<Connection>();
  readonly #counts = new Shares();
  readonly #timers: readonly Timer[];

  constructor({ rights, clock }: { readonly rights: HeldRights; readonly clock: Clock }) {
    this.#rights = rights;
    this.#timers = [
      clock.every(sweepEveryMs, () => this.#dismissIdle()),
      clock.every(pingEveryMs, () => this.#pingBusy()),
    ];
  }

  /**
   * Counts the connection as this principal's from now on; LINK_BUSY when it has too many, or its network. Without a
   * recognition it is not judged, for one that is left as soon as what was asked on it is answered.
   */
  recognise(connection: Connection, principal: Principal, recognition?: Recognition): void {
    if (connection.destroyed) return;
    const known = this.#connections.get(connection);
    const party = partyOf(principal);
    if (known?.party === party && known.tokenId === principal.tokenId) return;
    if (known?.party !== party) this.#requirePlace(party, knownBounds.perPrincipal);
    if (known) this.#forget(connection, known);
    else {
      this.#requirePlace(connection.network, knownBounds.perNetwork);
      this.#hearEnd(connection);
    }
    const end = (): void => this.#dismiss(connection);
    const letGo =
      recognition && this.#rights.hold({ principal, judge: recognition.judge, end }, recognition.since);
    const { tokenId } = principal;
    const { bytesRead } = connection;
    this.#connections.set(connection, { party, tokenId, letGo, bytesRead, unansweredPings: 0 });
    this.#counts.take(party);
    this.#counts.take(connection.network);
    connection.authenticated = true;
  }

  /** It is a stranger's again. */
  leave(connection: Connection): void {
    const known = this.#connections.get(connection);
    if (!known) return;
    this.#forget(connection, known);
    connection.authenticated = false;
  }

  close(): void {
    for (const timer of this.#timers) timer.cancel();
  }

  #dismissIdle(): void {
    for (const connection of this.#connections.keys())
      if ((connection.quietMs() ?? 0) > knownIdleMs) this.#dismiss(connection);
  }

  #pingBusy(): void {
    for (const [connection, known] of this.#connections) {
      if (connection.calls === 0 || !connection.ping) continue;
      const { bytesRead } = connection;
      known.unansweredPings = bytesRead === known.bytesRead ? known.unansweredPings + 1 : 0;
      known.bytesRead = bytesRead;
      if (known.unansweredPings > maxUnansweredPings) connection.destroy();
      else connection.ping();
    }
  }

  #hearEnd(connection: Connection): void {
    if (this.#heard.has(connection)) return;
    this.#heard.add(connection);
    connection.onClosed(() => this.leave(connection));
  }

  #requirePlace(party: string, bound: number): void {
    if (this.#counts.of(party) < bound) return;
    throw new RollcallError('LINK_BUSY', `at most ${bound} connections at once`, {
      hint: 'ask over the connections that are there: one takes many requests at once',
    });
  }

  #dismiss(connection: Connection): void {
    this.leave(connection);
    connection.retire();
  }

  #forget(connection: Connection, { party, letGo }: Known): void {
    this.#connections.delete(connection);
    this.#counts.giveBack(party);
    this.#counts.giveBack(connection.network);
    letGo?.();
  }
}
