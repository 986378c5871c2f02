/**
 * Events that need attention, under names that stay the same: each is counted, for the metrics, and written to the log
 * as a warning. What is written in a minute is bounded, because nobody outside decides how much is logged; the count
 * misses nothing.
 */
import type { AuditDetail } from '../../audit-log/entry.js';
import { systemClock, type Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import { cleanText } from '../../base/text.js';

/** Each with what the log line says. */
export const alertEvents = {
  'security.login-failures': 'repeated login failures',
  'security.refresh-reused': 'a refresh token was used twice; its session has ended',
  'security.token-denied': 'a revoked token was used',
  'security.proof-refused': 'a node could not prove that it holds its key',
  'security.setup-code-refused': 'a wrong setup code was given',
  'security.reply-refused': 'a node answered a message that was not sent to it',
  'security.request-refused': 'somebody asked for what they may not do',
  'security.audit-log-changed': 'the audit log of a tenant was changed or cut',
} as const;

export type AlertEvent = keyof typeof alertEvents;

export interface Alerts {
  /** Never fails. Strings of `detail` may come from outside: they are cleaned and cut. Secrets do not belong there. */
  raise(event: AlertEvent, detail?: AuditDetail): void;
}

export interface AlertsOptions {
  readonly log: Pick<Log, 'warn'>;
  /** Counts one more, for the metrics. */
  readonly count: (event: AlertEvent) => void;
  readonly clock?: Pick<Clock, 'elapsed'>;
}

/** Lines of one event. */
export const linesPerMinute = 10;
const minuteMs = 60_000;
const maxTextLength = 256;

interface Window {
  since: number;
  lines: number;
  /** Not written since the last line. */
  leftOut: number;
}

export function createAlerts({ log, count, clock = systemClock }: AlertsOptions): Alerts {
  const windows = new Map<AlertEvent, Window>();

  function windowOf(event: AlertEvent): Window {
    const now = clock.elapsed();
    const before = windows.get(event);
    if (before && now - before.since < minuteMs) return before;
    const window = { since: now, lines: 0, leftOut: before?.leftOut ?? 0 };
    windows.set(event, window);
    return window;
  }

  return {
    raise(event, detail = {}) {
      count(event);
      const window = windowOf(event);
      if (window.lines >= linesPerMinute) {
        window.leftOut += 1;
        return;
      }
      const leftOut = window.leftOut > 0 ? { leftOut: window.leftOut } : {};
      window.lines += 1;
      window.leftOut = 0;
      log.warn({ ...cleanDetail(detail), ...leftOut, event }, alertEvents[event]);
    },
  };
}

function cleanDetail(detail: AuditDetail): AuditDetail {
  return Object.fromEntries(
    Object.entries(detail).map(([key, value]) => [
      key,
      typeof value === 'string' ? cleanText(value, maxTextLength) : value,
    ]),
  );
}
