/**
 * While a node is online: waits for what comes first, the end of the session or the time to renew. Renewal enrolls on
 * the live connection, opens the next one with the new certificate, and leaves the old one only when it has been
 * welcomed on the next. Whatever fails on the way, the old session stays, and it is tried again while that lives.
 */
import type { Clock } from '../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Random } from '../base/random.js';
import { deferred, onAbort } from '../base/wait.js';
import type { ConditionLog } from './agent-log.js';
import { pauseAfter } from './backoff.js';
import type { Memory } from './memory.js';
import type { SessionEnd } from './session.js';
import type { Live, Steps } from './steps.js';

export interface OnlineOptions {
  readonly steps: Steps;
  readonly memory: Memory;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly conditions: ConditionLog;
  readonly signal: AbortSignal;
}

/** Between two tries to renew, at least, ms. */
const minRetryMs = 1_000;

/** Holds the node online from a welcomed session on; resolves when it is not any more, with nothing left open. */
export async function holdOnline(first: Live, options: OnlineOptions): Promise<SessionEnd> {
  const { log, clock, random, conditions, signal } = options;
  let live = first;
  let waitMs = first.renewInMs;
  let failures = 0;
  for (;;) {
    const event = await nextEvent(live, waitMs, clock, signal);
    if (event !== 'renew') {
      await leave(live);
      return failures > 0 ? withoutOwnTakeover(event) : event;
    }
    try {
      const next = await renew(live, options);
      void leave(live);
      live = next;
      waitMs = next.renewInMs;
      failures = 0;
      log.info({ nodeId: `${next.session.welcome.nodeId}`, generation: `${next.generation}` }, 'renewed');
    } catch (thrown) {
      const error = toRollcallError(thrown);
      if (error.code === 'NODE_REVOKED') {
        await leave(live);
        return { reason: 'ended', error };
      }
      failures += 1;
      const pauseMs = pauseAfter({ code: error.code, failures, refusals: failures }, random);
      waitMs = Math.max(minRetryMs, pauseMs);
      if (!signal.aborted) conditions.report(error, waitMs);
    }
  }
}

/** A newer certificate that could not be connected with yet is used before another one is asked for. */
async function renew(live: Live, { steps, memory }: OnlineOptions): Promise<Live> {
  const state = memory.usable();
  if (!state || state.generation === live.generation) await steps.enrollOn(live.connection);
  return steps.goLive();
}

/** The session says good-bye before the connection closes, so that the link knows who ended it. */
async function leave({ session, connection }: Live): Promise<void> {
  await session.close();
  await connection.close();
}

/**
 * A hand-over that got as far as the link but not back replaces the old session. Then it was this node, not another
 * one with its key, and there is no reason to stay away.
 */
function withoutOwnTakeover(end: SessionEnd): SessionEnd {
  return end.reason === 'ended' && isRollcallError(end.error, 'SESSION_REPLACED')
    ? {
        reason: 'ended',
        error: new RollcallError('LINK_UNREACHABLE', 'the hand-over to a new session failed'),
      }
    : end;
}

async function nextEvent(
  live: Live,
  waitMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<SessionEnd | 'renew'> {
  const { promise, resolve } = deferred<SessionEnd | 'renew'>();
  const timer = clock.after(waitMs, () => resolve('renew'));
  const forget = onAbort(signal, () => resolve({ reason: 'closed' }));
  void live.session.ended.then(resolve);
  const event = await promise;
  timer.cancel();
  forget();
  return event;
}
