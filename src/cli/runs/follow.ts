/**
 * Follows a run to its end, over whatever happens to the connection: a link that went away is asked again for a minute, from the
 * last line that came, and a token that ended is replaced where there is another.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { isRollcallError, RollcallError, type ErrorCode } from '../../base/errors.js';
import type { Runs } from '../../control-client/runs.js';
import type { Run, RunLogEntry } from '../../protocol/generated/rollcall/v1/runs.js';
import { isFinished } from './run-view.js';

export interface FollowOptions {
  readonly runs: Pick<Runs, 'log'>;
  readonly run: bigint;
  /** Only lines after this one; all by default. */
  readonly after?: number;
  /** At most so many lines; all by default. */
  readonly limit?: number | undefined;
  /** Ends it, without an error. */
  readonly signal: AbortSignal;
  readonly onEntry: (entry: RunLogEntry) => void | Promise<void>;
  readonly onRun: (run: Run) => void;
  /** The link has gone away and is asked again from now on. */
  readonly onLost: () => void;
  readonly patience?: Patience;
}

export interface Patience {
  readonly giveUpAfterMs: number;
  readonly pauseMs: number;
}

const defaultPatience: Patience = { giveUpAfterMs: 60_000, pauseMs: 500 };

/** They pass. */
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'LINK_UNREACHABLE',
  'LINK_DRAINING',
  'LINK_BUSY',
  'RATE_LIMITED',
  'DEADLINE_EXCEEDED',
  'STORE_UNAVAILABLE',
]);

interface Course {
  /** The last line that came. */
  after: number;
  left: number;
}

interface Attempt {
  /** The link has taken it. */
  isOn: boolean;
}

/** Gives the run as it ended; undefined when the signal or the limit ended the following first. */
export async function followRun(options: FollowOptions): Promise<Run | undefined> {
  const { signal, onLost, after = 0, limit = Infinity, patience = defaultPatience } = options;
  const course: Course = { after, left: limit };
  let lostAt: number | undefined;
  for (;;) {
    const attempt: Attempt = { isOn: false };
    try {
      const ended = await followOnce(options, course, attempt);
      if (ended || signal.aborted || course.left <= 0) return ended;
      throw new RollcallError('LINK_UNREACHABLE', 'the log ended before the run did');
    } catch (error) {
      if (!isPassing(error, attempt)) throw error;
      if (attempt.isOn) lostAt = undefined;
      if (lostAt === undefined) onLost();
      lostAt ??= performance.now();
      if (performance.now() - lostAt >= patience.giveUpAfterMs) throw givenUp(error, options.run, course);
    }
    await pause(patience.pauseMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return undefined;
  }
}

async function followOnce(
  options: FollowOptions,
  course: Course,
  attempt: Attempt,
): Promise<Run | undefined> {
  const { runs, run: id, signal, onEntry, onRun } = options;
  const { after } = course;
  const limit = Number.isFinite(course.left) ? { limit: course.left } : {};
  const onOpen = (): void => void (attempt.isOn = true);
  let last: Run | undefined;
  for await (const { entry, run } of runs.log(id, { after, ...limit, follow: true, signal, onOpen })) {
    if (entry) {
      await onEntry(entry);
      course.after = Number(entry.number);
      course.left -= 1;
    } else {
      onRun(run);
      last = run;
    }
  }
  // The last word of a log is how its run ended.
  return last && isFinished(last) ? last : undefined;
}

function isPassing(error: unknown, { isOn }: Attempt): boolean {
  if (!isRollcallError(error)) return false;
  // The token has ended meanwhile. A login has another; anyone who cannot get one is told why by the next.
  return passing.has(error.code) || (error.code === 'TOKEN_REFUSED' && isOn);
}

function givenUp(error: unknown, run: bigint, { after }: Course): RollcallError {
  const why = isRollcallError(error) ? error.message : 'no answer';
  return new RollcallError('LINK_UNREACHABLE', `gave up waiting for the link: ${why}`, {
    hint: `the run may go on: rollcall runs logs ${run} --follow --after ${after}`,
    cause: error,
  });
}
