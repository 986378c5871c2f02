/**
 * The live session of an enrolled node: one stream over the connection that carries its certificate. From Welcome on
 * the node is online. The session answers pings, passes trust bundles and the frames of runs on, notices when the link has
 * gone silent, and ends exactly once, with the reason. It leaves what to do then to the agent.
 */
import { status as Status, type ClientDuplexStream, type StatusObject } from '@grpc/grpc-js';
import type { Clock, Timer } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import { version as agentVersion } from '../base/version.js';
import { onAbort } from '../base/wait.js';
import type { LinkFrame, NodeFrame, Welcome } from '../protocol/generated/rollcall/v1/link.js';
import { limits, protocolVersions } from '../protocol/limits.js';
import { describeCallFailure, openCall } from './connection-error.js';
import type { LinkConnection } from './connection.js';
import type { Attachment, NodeRuns } from './runs/node-runs.js';

export interface SessionOptions {
  readonly connection: Pick<LinkConnection, 'link' | 'objects'>;
  readonly clock: Clock;
  /** DER of the server roots the link hands out, each time it does. */
  readonly onServerRoots: (roots: readonly Buffer[]) => void;
  /** What of runs comes and goes; without it frames of runs are passed over. */
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
  /** Says good-bye: the link sees that the node closed. Resolves when the stream is over. */
  close(): Promise<void>;
}

/** From the opened stream to Welcome, ms. */
const welcomeWithinMs = 10_000;
/** Whatever a link says, silence means no less and no more than this, ms. */
const silenceBounds = { min: 1_000, max: 10 * 60_000 };
/** From good-bye to the end of the stream, ms. */
const byeWithinMs = 1_000;

type Call = ClientDuplexStream<NodeFrame, LinkFrame>;

/** Resolves with the Welcome; rejects with what the link stated or with how the connection failed. */
export async function openSession(options: SessionOptions): Promise<Session> {
  const { connection, clock, runs, signal } = options;
  const call = openCall(() => connection.link.connect());
  const forget = onAbort(signal, () => call.cancel());
  const opened = runSession(call, options).finally(forget);
  send(call, {
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

/** Gives false when frames wait to be read by the link. */
function send(call: Call, frame: NonNullable<NodeFrame['frame']>): boolean {
  // A stream that is over takes no more frames; its end is told elsewhere.
  return !call.writable || call.write({ frame });
}

/** Resolves when no frame waits any more, or the stream is over. */
function drained(call: Call): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      call.off('drain', done).off('status', done);
      resolve();
    };
    if (call.writable && call.writableNeedDrain) call.on('drain', done).on('status', done);
    else resolve();
  });
}

function runSession(call: Call, options: SessionOptions): Promise<Session> {
  const { connection, clock, onServerRoots, runs } = options;
  let tellEnd: (end: SessionEnd) => void = () => undefined;
  const ended = new Promise<SessionEnd>(tell => (tellEnd = tell));
  let welcomed = false;
  let closing = false;
  let draining: { readonly pauseMs: number } | undefined;
  let attachment: Attachment | undefined;
  let patienceMs = welcomeWithinMs;
  let silence: Timer = clock.after(patienceMs, onSilence);

  function onSilence(): void {
    finish(unreachable(welcomed ? 'the link fell silent' : 'the link sent no Welcome'));
    call.cancel();
  }

  function listenOn(): void {
    silence.cancel();
    silence = clock.after(patienceMs, onSilence);
  }

  // Only the first call has an effect.
  function finish(error: RollcallError): void {
    silence.cancel();
    attachment?.detach();
    if (closing) tellEnd({ reason: 'closed' });
    else if (draining && isFarewell(error)) tellEnd({ reason: 'drained', error: goingAway(), ...draining });
    else tellEnd({ reason: 'ended', error });
  }

  async function close(): Promise<void> {
    closing = true;
    call.end();
    const late = clock.after(byeWithinMs, () => call.cancel());
    await ended;
    late.cancel();
  }

  return new Promise((resolve, reject) => {
    void ended.then(end => reject(end.reason === 'closed' ? unreachable('told to stop') : end.error));
    call.on('data', ({ frame }: LinkFrame) => {
      if (frame?.$case === 'welcome' && !welcomed) {
        welcomed = true;
        patienceMs = patienceOf(frame.value);
        attachment = runs?.attach({
          nodeId: frame.value.nodeId,
          objects: connection.objects,
          send: each => send(call, each),
          drained: () => drained(call),
        });
        resolve({ welcome: frame.value, ended, close });
      } else if (frame?.$case === 'ping') {
        send(call, { $case: 'pong', value: { sequence: frame.value.sequence } });
      } else if (frame?.$case === 'trustBundle') onServerRoots(frame.value.serverRoots);
      else if (frame?.$case === 'drain') draining = { pauseMs: frame.value.reconnectAfterMs };
      else if (frame) attachment?.receive(frame);
      // What a newer link may send besides is passed over; any frame is a sign of life.
      listenOn();
    });
    // The status comes last and always; the error event tells the same, and must have a listener.
    call.on('error', () => undefined);
    call.on('status', (status: StatusObject) => finish(endOf(status)));
  });
}

function endOf(status: StatusObject): RollcallError {
  return status.code === Status.OK ? unreachable('the link ended the session') : describeCallFailure(status);
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
