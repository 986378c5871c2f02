/** `rollcall.v1.Runs`: thin translations of src/link/run-control.ts. The guard has settled who asks already. */
import type { sendUnaryData, ServerReadableStream } from '@grpc/grpc-js';
import type { Clock } from '../../../base/clock.js';
import { toRollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import type { Run, RunsServer, StartRunRequest } from '../../../protocol/generated/rollcall/v1/runs.js';
import type { RunControl } from '../../run-control.js';
import { endCall, statusOf } from './call-end.js';
import { logFault } from '../public-error.js';
import type { GrpcDoor } from './grpc-door.js';
import { streamRunLog, type LogCall } from './run-log-stream.js';
import { Uploads } from './run-upload.js';
import { readRunQuery, toListedRun, toRun } from './runs-codec.js';
import { createUnary } from './unary.js';

export interface RunsDoorOptions {
  readonly runControl: RunControl;
  readonly door: Pick<GrpcDoor, 'principalOf' | 'hold'>;
  readonly clock: Clock;
  readonly log: Log;
}

const what = 'a request about runs';

export function createRunsDoor({ runControl, door, clock, log }: RunsDoorOptions): RunsServer {
  const unary = createUnary({ door, log, what });
  const uploads = new Uploads({ clock });

  async function startRun(call: ServerReadableStream<StartRunRequest, Run>): Promise<Run> {
    const principal = door.principalOf(call);
    // Its rule says all; the reader of a destroyed call throws.
    door.hold(
      call,
      () => undefined,
      refusal => void call.destroy(toRollcallError(refusal)),
    );
    const start = (wanted: Parameters<RunControl['startRun']>[1]) =>
      runControl.startRun(door.principalOf(call), wanted);
    return toRun(await uploads.receive(call, principal, start));
  }

  async function readRunLog(call: LogCall): Promise<void> {
    const principal = door.principalOf(call);
    const check = async (now: typeof principal): Promise<void> => {
      await runControl.getRun(now, call.request.run);
    };
    door.hold(call, check, refusal => endCall(call, refusal));
    await streamRunLog({ call, runControl, principal, clock });
    if (!call.writableEnded) call.end();
  }

  return {
    startRun: (call, callback) => answer(startRun(call), callback),
    getRun: unary(async ({ run }, principal) => toRun(await runControl.getRun(principal, run))),
    listRuns: unary(async (request, principal) => {
      const page = await runControl.listRuns(principal, readRunQuery(request));
      return { runs: page.runs.map(toListedRun), nextPageToken: page.nextPageToken };
    }),
    stopRun: unary(async ({ run }, principal) => toRun(await runControl.stopRun(principal, run))),
    readRunLog: call =>
      void readRunLog(call).catch((error: unknown) => {
        logFault(log, error, what);
        endCall(call, error);
      }),
  };

  function answer(started: Promise<Run>, callback: sendUnaryData<Run>): void {
    started.then(
      run => callback(null, run),
      (error: unknown) => {
        logFault(log, error, what);
        callback(statusOf(error));
      },
    );
  }
}
