/** The options of hosting, and its reasons for ending a runner. */
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import type { Isolation } from './hosting.js';
import type { RunnerPrograms } from './runner-programs.js';
import type { Environment } from './spawn-runner.js';

export interface HostingOptions {
  readonly isolation: Isolation;
  /** Needed for `process`: where supervisor and runners connect, in a folder that is closed to others. */
  readonly socketPath?: string | undefined;
  /** Needed for `process`: what a supervisor must show (host-key.ts). */
  readonly hostKey?: string | undefined;
  readonly programs: RunnerPrograms;
  /** PATH, LANG and TZ of it go to children; without it they get a usual PATH. */
  readonly environment?: Environment | undefined;
  /** Anyone who connects waits until `open`: for those who first say what they expect. */
  readonly held?: boolean | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** The notes of `RunnerExit`, but for those of a process that ended by itself. */
export const endNotes = {
  stopped: 'it was stopped',
  closed: 'the program it worked for ends',
  hostRestarted: 'its app host was restarted',
  hostEnds: 'its app host ends',
  parentEnded: 'it ended with the program that had started it',
} as const;
