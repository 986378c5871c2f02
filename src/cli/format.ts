/** Values as people and machines read them: moments, durations, JSON, lists of pairs. Pure. */
import { formatRfc3339 } from '../base/rfc3339.js';
import { plainText } from '../base/text.js';

const secondsOfDay = 86_400;

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}

/** `HH:MM:SS`, from a day on `2d 03:04:05`. A negative duration (clocks apart) counts as none. */
export function formatElapsed(elapsedMs: number): string {
  const seconds = Math.max(0, Math.floor(elapsedMs / 1000));
  const days = Math.floor(seconds / secondsOfDay);
  const rest = seconds % secondsOfDay;
  const clock = [Math.floor(rest / 3600), Math.floor(rest / 60) % 60, rest % 60].map(twoDigits).join(':');
  return days > 0 ? `${days}d ${clock}` : clock;
}

/** `YYYY-MM-DD HH:MM:SSZ`; `N/A` for no moment. */
export function formatMoment(atMs: bigint | number): string {
  const iso = formatRfc3339(atMs);
  return iso === undefined ? 'N/A' : iso.replace('T', ' ').replace(/\.\d{3}Z$/, 'Z');
}

/** Microseconds as milliseconds: `0.42 ms`, `3.2 ms`, `118 ms`. */
export function formatMicroseconds(us: bigint): string {
  const ms = Number(us) / 1000;
  const digits = ms < 1 ? 2 : ms < 100 ? 1 : 0;
  return `${ms.toFixed(digits)} ms`;
}

/** `one session`, `3 sessions`. */
export function formatCount(count: number, noun: string): string {
  return count === 1 ? `one ${noun}` : `${count} ${noun}s`;
}

/** `a=1, b=2`, in the order of the names. */
export function formatLabels(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, value]) => `${plainText(name)}=${plainText(value)}`)
    .join(', ');
}

/**
 * JSON that is safe on a terminal too: DEL, the C1 controls and invisible formatting, which JSON.stringify leaves as
 * they are, become escapes. The value read back is the same.
 */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replaceAll(/[\x7f-\x9f\u2028\u2029]|\p{Cf}/gu, found =>
    Array.from({ length: found.length }, (_, index) => {
      return `\\u${found.charCodeAt(index).toString(16).padStart(4, '0')}`;
    }).join(''),
  );
}
