/** Where runs, their messages and their logs lie in the store. */
import { padded, tenantPrefix } from '../../store/keys.js';
import type { Key } from '../../store/store.js';

const idDigits = 20;
const numberDigits = 16;

export const runKey = (tenant: string, id: bigint): Key =>
  `${tenantPrefix(tenant)}run/${padded(id, idDigits)}`;

/** In the order in which they were started; holds the id. */
export const runOrderPrefix = (tenant: string): Key => `${tenantPrefix(tenant)}run-order/`;
export const runOrderKey = (tenant: string, order: number): Key =>
  runOrderPrefix(tenant) + padded(order, numberDigits);

/** The run that a caller started with an idempotency key; the hash is of both. */
export const startKey = (tenant: string, hash: string): Key => `${tenantPrefix(tenant)}run-start/${hash}`;

/** Holds the tenant of a run that is not over, or whose messages and objects are still to be removed. */
export const openRunPrefix: Key = 'runs/open/';
export const openRunKey = (id: bigint): Key => openRunPrefix + padded(id, idDigits);

export const messagePrefix = (tenant: string, run: bigint): Key =>
  `${tenantPrefix(tenant)}message/${padded(run, idDigits)}/`;
export const messageKey = (tenant: string, run: bigint, number: number): Key =>
  messagePrefix(tenant, run) + padded(number, numberDigits);

/** The nodes that were sent anything in a run. */
export const runNodePrefix = (tenant: string, run: bigint): Key =>
  `${tenantPrefix(tenant)}run-node/${padded(run, idDigits)}/`;
export const runNodeKey = (tenant: string, run: bigint, node: bigint): Key =>
  runNodePrefix(tenant, run) + padded(node, idDigits);

export const runLogPrefix = (tenant: string, run: bigint): Key =>
  `${tenantPrefix(tenant)}run-log/${padded(run, idDigits)}/`;
export const runLogKey = (tenant: string, run: bigint, number: number): Key =>
  runLogPrefix(tenant, run) + padded(number, numberDigits);
/** How far the log of a run is. */
export const runLogHeadKey = (tenant: string, run: bigint): Key =>
  `${tenantPrefix(tenant)}run-log-head/${padded(run, idDigits)}`;

/** The id or number a key ends in. */
export function numberOfKey(key: Key): bigint {
  return BigInt(key.slice(key.lastIndexOf('/') + 1));
}
