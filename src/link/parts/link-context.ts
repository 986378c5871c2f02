/** The arguments with which every part of the link is opened. */
import type { Clock } from '../../base/clock.js';
import type { Lifecycle } from '../../base/lifecycle.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import type { UsableLinkConfig } from '../config.js';

export interface LinkContext {
  readonly config: UsableLinkConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Closes what was opened, in reverse. */
  readonly lifecycle: Lifecycle;
}
