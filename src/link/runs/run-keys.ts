/** Keys of runs, their messages and their logs in the store. */
import { padded, tenantPrefix } from '../../store/keys.js';
import type { Key } from '../../store/store.js';

const idDigits = 20;
const numberDigits = 16;

export const runKey = (tenant: string, id: bigint): Key =>
  `${tenantPrefix(tenant)}run/${padded(id, idDigits)}`;

/** Maps the order in which the runs were started to their ids. */
export const runOrderPrefix = (tenant: string): Key => `${tenantPrefix(tenant)}run-order/`;
export const runOrderKey = (tenant: string, order: number): Key =>
  runOrderPrefix(tenant) + padded(order, numberDigits);

/** Holds the run that a caller started with an idempotency key. `hash` covers the caller and the key. */
export const startKey = (tenant: string, hash: string): Key => `${tenantPrefix(tenant)}run-start/${hash}`;

/** Holds the tenant of a run that is not finished, or whose messages and objects are not removed yet. */
export const openRunPrefix: Key = 'runs/open/';
export const openRunKey = (id: bigint): Key => openRunPrefix + padded(id, idDigits);

export const messagePrefix = (tenant: string, run: bigint): Key =>
  `${tenantPrefix(tenant)}message/${padded(run, idDigits)}/`;
export const messageKey = (tenant: string, run: bigint, number: number): Key =>
  messagePrefix(tenant, run) + padded(number, numberDigits);

/** The nodes of a run: those that messages were stored for. */
export const runNodePrefix = (tenant: string, run: bigint): Key =>
  `${tenantPrefix(tenant)}run-node/${padded(run, idDigits)}/`;
export const runNodeKey = (tenant: string, run: bigint, node: bigint): Key =>
  runNodePrefix(tenant, run) + padded(node, idDigits);

export const runLogPrefix = (tenant: string, run: bigint): Key =>
  `${tenantPrefix(tenant)}run-log/${padded(run, idDigits)}/`;
export const runLogKey = (tenant: string, run: bigint, number: number): Key =>
  runLogPrefix(tenant, run) + padded(number, numberDigits);
/** Holds the number of lines in the log of a run (LogHead in run-log-draft.ts). */
export const runLogHeadKey = (tenant: string, run: bigint): Key =>
  `${tenantPrefix(tenant)}run-log-head/${padded(run, idDigits)}`;

/** The id or number at the end of a key. */
export function numberOfKey(key: Key): bigint {
  return BigInt(key.slice(key.lastIndexOf('/') + 1));
}
