/**
 * The limits of a run, enforced by the link, the agent and both runners; python/rollcall_app.py states the same numbers. How
 * much fits into one frame is in protocol/limits.ts, how large an object may be in objects/manifest.ts.
 */
export const appLimits = {
  /** How long a message waits for its answer: at least, by default, and at most, ms. */
  minTtlMs: 1,
  defaultTtlMs: 60 * 60_000,
  maxTtlMs: 7 * 24 * 60 * 60_000,
  /** The result of a run, as JSON, bytes. */
  maxResultBytes: 64 * 1024,
  /** The text of a failure, of a run or of a handler, bytes; the rest is cut off. */
  maxFailureBytes: 4_096,
  /** `context.state` of a node half, as it is stored, bytes. */
  maxStateBytes: 16 * 1024 * 1024,
} as const;
