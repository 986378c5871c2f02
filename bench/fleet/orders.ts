/**
 * The orders of the bench to a fleet. A fleet is a process that holds thousands of light agents: real keys, real TLS,
 * the real protocol, but nothing that a figure does not need. Its agents are in crews; a crew has one server.
 */
import type { Curve } from '../../src/identity/public-key.js';

/**
 * The protocol of a crew with its server. A bare server cannot cut sockets: with it an agent is gone when its stream
 * ends.
 */
export type Dialect = 'rollcall' | 'bare' | 'nats' | 'mqtt';

/** Agents by their number in the crew, `to` excluded. */
export interface Part {
  readonly crew: string;
  readonly from: number;
  readonly to: number;
  /** At work at the same time. */
  readonly inFlight?: number;
}

export interface Orders {
  /** Sets the server of a crew; makes the crew. */
  aim(order: { readonly crew: string; readonly dialect: Dialect; readonly port: number }): void;
  /** Makes agents with new keys; gives their public keys, SPKI DER. */
  grow(order: { readonly crew: string; readonly count: number; readonly curve: Curve }): Uint8Array[];
  /** Gives agents certificates by the authority in a folder, without any server. */
  certify(order: Part & { readonly folder: string }): void;
  enroll(order: Part): Timing;
  connect(order: Part): Timing;
  /** Closes the connections and waits until they are. */
  leave(order: Part): void;
  /** Waits until each of these was cut off; gives when, ms on the clock of all processes. */
  gone(order: Part): number[];
  /** From now on they return by themselves when they lose their server, as the agent does: after waits that grow. */
  persist(order: Part): void;
  /** Waits until all of these have come online since; gives when each got there. */
  back(order: Part & { readonly since: number }): number[];
  /** Measurements of the deliveries to all crews since the last such order. */
  delivered(order: object): Delivered;
}

export interface Delivered {
  /** From the moment that the sender put into each message until an agent had it before it, ms. */
  readonly lagMs: number[];
  readonly readings: ObjectReading[];
}

/** An object that an agent has read, ms on the clock of all processes: from its message until its last byte was checked. */
export interface ObjectReading {
  readonly startedAt: number;
  readonly endedAt: number;
  readonly sizeBytes: number;
}

export interface Timing {
  /** For all of them, ms. */
  readonly wallMs: number;
  /** For each of them, ms. */
  readonly eachMs: number[];
}

export type OrderName = keyof Orders;

export interface Order {
  readonly number: number;
  readonly name: OrderName;
  readonly words: unknown;
}

export type Answer = { readonly number: number } & ({ readonly value: unknown } | { readonly error: string });
