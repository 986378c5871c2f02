/** Moments as machines read them. */

/** The furthest moment a Date can hold, ms since 1970 (ECMA-262, time values). */
const furthestMs = 8.64e15;

/** RFC 3339 in UTC with milliseconds; undefined for 0 and for what no date can hold. */
export function formatRfc3339(atMs: bigint | number): string | undefined {
  const ms = Number(atMs);
  return ms === 0 || !(Math.abs(ms) <= furthestMs) ? undefined : new Date(ms).toISOString();
}
