/** The way to the link where it leads through a proxy. */
import { systemClock } from '../base/clock.js';
import type { TunnelRequest } from '../base/tunnel.js';
import type { HttpTarget } from './http-target.js';

/** For a proxy to agree, ms. */
const defaultTimeoutMs = 10_000;

/** The tunnel to ask of the proxy; undefined where connections go straight to the link. */
export function tunnelTo(
  { address, route }: HttpTarget,
  timeoutMs = defaultTimeoutMs,
): TunnelRequest | undefined {
  return route?.proxy && { proxy: route.proxy, link: address, timeoutMs, clock: systemClock };
}
