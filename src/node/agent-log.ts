/**
 * The log of the agent. A condition that lasts is logged once, when it begins, and again only when it has changed; its
 * repetitions go to the debug level, so that a node that waits for its link for a week does not fill a disk.
 */
import { isFileError, type RollcallError } from '../base/errors.js';
import type { Log } from '../base/log.js';

export interface ConditionLog {
  /** An attempt failed and will be made again. */
  report(error: RollcallError, retryInMs: number): void;
  /** The conditions told so far are over. */
  clear(): void;
  /** Compares this machine's clock with the link's, both ms since 1970; tells when they are far apart. */
  compareClocks(own: number, links: number): void;
}

/** Clocks this far apart are logged, ms. Less does not matter to anything here. */
export const tellSkewMs = 60_000;

export function createConditionLog(log: Log): ConditionLog {
  const told = new Set<string>();
  let skewTold = false;
  return {
    report(error, retryInMs) {
      const { code, message, hint, cause } = error;
      const condition = `${code} ${message}`;
      const isNew = !told.has(condition);
      told.add(condition);
      const fields = { code, hint, retryInMs: Math.round(retryInMs) };
      if (!isNew) log.debug({ ...fields, cause }, message);
      // An error of this side is for the person who repairs it.
      else if (code === 'INTERNAL' || code === 'STORE_UNAVAILABLE' || isFileError(error))
        log.error({ ...fields, cause }, message);
      else log.warn(fields, message);
    },
    clear: () => told.clear(),
    compareClocks(own, links) {
      const isFar = Math.abs(own - links) > tellSkewMs;
      if (isFar && !skewTold) {
        log.warn(
          {},
          `this machine's clock says ${formatTime(own)}, the link's says ${formatTime(links)}; set one right`,
        );
      }
      skewTold = isFar;
    },
  };
}

function formatTime(at: number): string {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? 'an impossible time' : time.toISOString();
}
