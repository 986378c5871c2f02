/**
 * The log of a run as a stream: what is stored, page by page and no faster than it is read; then, for who follows, what comes,
 * until the run is over. The run itself comes in between, a few times a second at the most, and once when it is over.
 */
import { isDeepStrictEqual } from 'node:util';
import { Metadata, type ServerWritableStream } from '@grpc/grpc-js';
import type { Clock } from '../../../base/clock.js';
import type { ReadRunLogRequest, RunLogEvent } from '../../../protocol/generated/rollcall/v1/runs.js';
import type { Principal } from '../../access/principal.js';
import type { RunControl } from '../../run-control.js';
import type { RunRecord } from '../../runs/run-record.js';
import { ReaderPace } from './reader-pace.js';
import { entryEvent, readEntryNumber, runEvent } from './runs-codec.js';

export type LogCall = ServerWritableStream<ReadRunLogRequest, RunLogEvent>;

/** The run itself is sent at most once in this time, ms. */
const runEveryMs = 200;
/** Changes within this time are handled together, ms. */
const lookEveryMs = 10;
const pageEntries = 200;

export interface RunLogStreamOptions {
  readonly call: LogCall;
  readonly runControl: Pick<RunControl, 'getRun' | 'readLog' | 'watchRun'>;
  readonly principal: Principal;
  readonly clock: Clock;
}

/** Resolves when all was written that is to be, or nobody is there to read it. The call is then still to be ended. */
export async function streamRunLog(options: RunLogStreamOptions): Promise<void> {
  const { call, runControl, principal, clock } = options;
  const { run: id, after, follow } = call.request;
  const reader = new ReaderPace(call, clock);
  const entries = createEntries(options, reader, readEntryNumber(after));
  if (!follow) {
    await runControl.getRun(principal, id);
    call.sendMetadata(new Metadata());
    await entries.writeStored();
    return;
  }
  const alarm = createAlarm(clock);
  call.on('cancelled', alarm.ring);
  // The changes first, so that none falls between them and what is stored.
  const stopWatching = await runControl.watchRun(principal, id, alarm.ring);
  try {
    // Says at once that it is on, also when nothing is written for hours.
    call.sendMetadata(new Metadata());
    await followRun(options, reader, entries, alarm);
  } finally {
    stopWatching();
    alarm.cancel();
  }
}

async function followRun(
  { call, runControl, principal, clock }: RunLogStreamOptions,
  reader: Reader,
  entries: Entries,
  alarm: Alarm,
): Promise<void> {
  let told: RunRecord | undefined;
  let toldAt = 0;
  const tell = async (run: RunRecord): Promise<void> => {
    told = run;
    toldAt = clock.elapsed();
    reader.write(runEvent(run), sizeOfRun(run));
    await reader.room();
  };
  while (!reader.isOver()) {
    // The run before its entries: when it is over, they are all there.
    const run = await runControl.getRun(principal, call.request.run);
    if (!told) await tell(run);
    if (await entries.writeStored()) return;
    if (run.status === 'finished') {
      await tell(run);
      return;
    }
    const waitMs = toldAt + runEveryMs - clock.elapsed();
    if (isDeepStrictEqual(told, run)) alarm.ringIn(undefined);
    else if (waitMs > 0) alarm.ringIn(waitMs);
    else await tell(run);
    await alarm.rung();
  }
}

type Reader = ReaderPace<ReadRunLogRequest, RunLogEvent>;

/** Of what is not text, near enough. */
const eventBytes = 128;

function sizeOfRun({ result, config }: RunRecord): number {
  return eventBytes + result.length + JSON.stringify(config).length;
}

interface Entries {
  /** Writes what is stored and was not written yet. Gives true when no more are wanted. */
  writeStored(): Promise<boolean>;
}

function createEntries(
  { call, runControl, principal }: RunLogStreamOptions,
  reader: Reader,
  from: number,
): Entries {
  const { run: id, limit } = call.request;
  let after = from;
  let left = limit === 0 ? Infinity : limit;
  return {
    async writeStored() {
      while (left > 0 && !reader.isOver()) {
        const max = Math.min(left, pageEntries);
        const page = await runControl.readLog(principal, id, after, max);
        for (const entry of page) {
          if (reader.isOver()) return true;
          reader.write(entryEvent(entry), eventBytes + entry.text.length);
          after = entry.number;
          left -= 1;
          await reader.room();
        }
        if (page.length < max) break;
      }
      return left === 0 || reader.isOver();
    },
  };
}

interface Alarm {
  readonly ring: () => void;
  /** Rings after so long unless it rings before; undefined for not by itself. */
  ringIn(ms: number | undefined): void;
  /** Resolves when it has rung since the last time, soon after that. */
  rung(): Promise<void>;
  cancel(): void;
}

function createAlarm(clock: Clock): Alarm {
  let hasRung = false;
  let wake = (): void => undefined;
  let timer: { cancel(): void } | undefined;
  const ring = (): void => {
    hasRung = true;
    wake();
  };
  return {
    ring,
    ringIn(ms) {
      timer?.cancel();
      timer = ms === undefined ? undefined : clock.after(ms, ring);
    },
    async rung() {
      if (!hasRung) await new Promise<void>(resolve => (wake = resolve));
      await new Promise<void>(resolve => clock.after(lookEveryMs, resolve));
      hasRung = false;
    },
    cancel: () => timer?.cancel(),
  };
}
