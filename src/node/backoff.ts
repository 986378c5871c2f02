/**
 * How long the agent waits before it tries again: a pure function of what happened, how often, and chance. Chance is
 * there so that a fleet that lost its link together does not come back together.
 */
import type { ErrorCode } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { limits } from '../protocol/limits.js';

export interface Setback {
  /** Why the last attempt, or the last session, ended. */
  readonly code: ErrorCode;
  /** Setbacks in a row, this one included, since a session last held. */
  readonly failures: number;
  /** Certificates refused in a row, this one included, since the node was last online. */
  readonly refusals: number;
  /** The pause that the link asked for, when it drained or in its error, ms. */
  readonly askedPauseMs?: number | undefined;
}

/** First ceiling of the exponential wait, ms. */
export const baseMs = 500;
/** Last ceiling of the exponential wait, ms. */
export const capMs = 30_000;
/** First ceiling while the operator's decision is awaited, ms. */
export const calmBaseMs = 5_000;
/** The longest pause that a link can ask for, ms. */
export const maxAskedPauseMs = 5 * 60_000;
/** A session that held for this long makes what went before it forgotten, ms. */
export const settledAfterMs = 10_000;

/** Milliseconds to wait before the next attempt. */
export function pauseAfter(setback: Setback, random: Random): number {
  const { code, failures, refusals, askedPauseMs } = setback;
  const chance = fraction(random);
  switch (code) {
    case 'LINK_DRAINING':
      if (askedPauseMs === undefined) return chance * ceiling(baseMs, failures);
      return asked(Math.max(askedPauseMs, baseMs), chance);
    case 'SESSION_REPLACED':
      return (1 + chance / 2) * limits.replacedPauseMs;
    case 'NODE_NOT_REGISTERED':
    case 'NODE_PENDING':
    case 'NODE_QUARANTINED':
      return ((1 + chance) / 2) * ceiling(calmBaseMs, failures);
    case 'CERTIFICATE_REFUSED':
    case 'SESSION_EXPIRED':
      return refusals <= 1 ? 0 : chance * ceiling(baseMs, failures);
    default:
      return Math.max(asked(askedPauseMs ?? 0, chance), chance * ceiling(baseMs, failures));
  }
}

/** Up to half as long again, so that nodes that were asked together do not return together. */
function asked(pauseMs: number, chance: number): number {
  return (1 + chance / 2) * Math.min(pauseMs, maxAskedPauseMs);
}

/** Doubles with every failure after the first, up to the cap. */
function ceiling(startMs: number, failures: number): number {
  return Math.min(capMs, startMs * 2 ** Math.min(Math.max(failures - 1, 0), 16));
}

/** From 0, included, to 1, excluded. */
export function fraction(random: Random): number {
  return random(4).readUInt32BE() / 2 ** 32;
}
