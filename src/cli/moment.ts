/** Moments as people type them. */
import { as } from '../base/settings.js';
import { usageError } from './failure.js';

const fourYearsMs = 4 * 366 * 86_400_000;
const momentPattern = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/;

/** `now`, a date, a moment (RFC 3339), or a duration before now; milliseconds since 1970. Undefined stays. */
export function parseWhen(flag: string, text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  if (text === 'now') return nowMs;
  const moment = momentPattern.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(moment)) return moment;
  try {
    return nowMs - as.duration(0, fourYearsMs)(text);
  } catch {
    throw usageError(
      `${flag}: expected a moment, found "${text}"`,
      'such as now, 2026-01-15, 2026-01-15T12:00:00Z, or 2h for two hours ago',
    );
  }
}
