/**
 * The live session of an enrolled node: the frames on the connection that carries its certificate. From Welcome on
 * the node is online. The session answers pings, passes trust bundles and the frames of runs on, notices when the link has
 * gone silent, and ends exactly once, with the reason. It leaves what to do then to the agent.
 */
import type { Clock, Timer } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import { version as agentVersion } from '../base/version.js';
import { deferred, onAbort } from '../base/wait.js';
import type { Welcome } from '../protocol/generated/rollcall/v1/link.js';
import { limits, protocolVersions } from '../protocol/limits.js';
import type { LinkConnection } from './connection.js';
import type { ObjectsLink } from './object-connection.js';
import type { Attachment, NodeRuns } from './runs/node-runs.js';

export interface SessionOptions {
  readonly connection: Pick<LinkConnection, 'send' | 'listen' | 'drained' | 'destroy' | 'over'>;
  /** The way to objects of runs while this session lives. */
  readonly objects: ObjectsLink;
  readonly clock: Clock;
  /** DER of the server roots the link hands out, each time it does. */
  readonly onServerRoots: (roots: readonly Buffer[]) => void;
  /** The frames of runs; without it they are ignored. */
  readonly runs?: Pick<NodeRuns, 'knownRuns' | 'attach'> | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type SessionEnd =
  /** This side closed it. */
  | { readonly reason: 'closed' }
  /** The link announced that it goes, and when to come back, ms. */
  | { readonly reason: 'drained'; readonly error: RollcallError; readonly pauseMs: number }
  /** The link ended it and said why, or the connection broke, or the link fell silent. */
  | { readonly reason: 'ended'; readonly error: RollcallError };

export interface Session {
  readonly welcome: Welcome;
  readonly ended: Promise<SessionEnd>;
  /** Says good-bye: the link sees that the node closed. Resolves when the session is over. */
  close(): Promise<void>;
}

/** From Ready to Welcome, ms. */
const welcomeWithinMs = 10_000;
/** Bounds of the silence that a link may ask for, ms. */
const silenceBounds = { min: 1_000, max: 10 * 60_000 };
/** From good-bye to the end of the connection, ms. */
const byeWithinMs = 1_000;

/** Resolves with the Welcome; rejects with what the link stated or with how the connection failed. */
export async function openSession(options: SessionOptions): Promise<Session> {
  const { connection, clock, runs, signal } = options;
  const forget = onAbort(signal, () => connection.destroy());
  const opened = runSession(options).finally(forget);
  connection.send({
    $case: 'ready',
    value: {
      protocolVersion: protocolVersions[0],
      agentVersion,
      nodeClockMs: BigInt(Math.round(clock.now())),
      runs: [...(runs?.knownRuns() ?? [])],
    },
  });
  return opened;
}

function runSession({ connection, objects, clock, onServerRoots, runs }: SessionOptions): Promise<Session> {
  const { promise: ended, resolve: tellEnd } = deferred<SessionEnd>();
  let welcomed = false;
  let closing = false;
  let draining: { readonly pauseMs: number } | undefined;
  let attachment: Attachment | undefined;
  let patienceMs = welcomeWithinMs;
  let silence: Timer = clock.after(patienceMs, onSilence);

  function onSilence(): void {
    finish(unreachable(welcomed ? 'the link fell silent' : 'the link sent no Welcome'));
    connection.destroy();
  }

  function listenOn(): void {
    silence.cancel();
    silence = clock.after(patienceMs, onSilence);
  }

  // Only the first call has an effect.
  function finish(error: RollcallError): void {
    forget();
    silence.cancel();
    attachment?.detach();
    if (closing) tellEnd({ reason: 'closed' });
    else if (draining && isFarewell(error)) tellEnd({ reason: 'drained', error: goingAway(), ...draining });
    else tellEnd({ reason: 'ended', error });
  }

  async function close(): Promise<void> {
    closing = true;
    connection.send({ $case: 'leave', value: {} });
    const late = clock.after(byeWithinMs, () => connection.destroy());
    await ended;
    late.cancel();
  }

  const { promise: opened, resolve: open, reject: refuse } = deferred<Session>();
  void ended.then(end => refuse(end.reason === 'closed' ? unreachable('told to stop') : end.error));
  const forget = connection.listen(frame => {
    if (frame.$case === 'welcome' && !welcomed) {
      welcomed = true;
      patienceMs = patienceOf(frame.value);
      attachment = runs?.attach({
        nodeId: frame.value.nodeId,
        objects,
        send: each => connection.send(each),
        drained: () => connection.drained(),
      });
      open({ welcome: frame.value, ended, close });
    } else if (frame.$case === 'ping') {
      connection.send({ $case: 'pong', value: { sequence: frame.value.sequence } });
    } else if (frame.$case === 'trustBundle') onServerRoots(frame.value.serverRoots);
    else if (frame.$case === 'drain') draining = { pauseMs: frame.value.reconnectAfterMs };
    else attachment?.receive(frame);
    // A frame of a newer link is passed over; any frame is a sign of life.
    listenOn();
  });
  void connection.over.then(finish);
  return opened;
}

/** After a Drain the connection may be cut before the status that says so is through. */
function isFarewell({ code }: RollcallError): boolean {
  return code === 'LINK_DRAINING' || code === 'LINK_UNREACHABLE';
}

function goingAway(): RollcallError {
  return new RollcallError('LINK_DRAINING', 'the link is going away for a moment');
}

function unreachable(why: string): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', why);
}

function patienceOf({ silenceMs }: Welcome): number {
  const saidMs = silenceMs === 0 ? limits.silenceMs : silenceMs;
  return Math.min(Math.max(saidMs, silenceBounds.min), silenceBounds.max);
}
