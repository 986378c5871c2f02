/** `rollcall.v1.Enrollment`: one stream is one attempt, with a deadline for each of the node's two messages. */
import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import type {
  EnrollmentServer,
  EnrollRequest,
  EnrollResponse,
} from '../../../protocol/generated/rollcall/v1/enrollment.js';
import { limits } from '../../../protocol/limits.js';
import type { Attempt, EnrollPeer, Enrollments } from '../../enrollment/enrollments.js';
import type { Connection } from '../tls/connection.js';
import { endCall, logFault } from './call-end.js';
import type { GrpcDoor } from './grpc-door.js';

type Call = ServerDuplexStream<EnrollRequest, EnrollResponse>;

export interface EnrollmentDoorOptions {
  readonly door: Pick<GrpcDoor, 'connectionOf'>;
  readonly enrollments: Enrollments;
  /** A certificate was issued on this connection. */
  readonly onIssued: (connection: Connection, nodeId: bigint, fingerprint: string) => void;
  /** A peer let a deadline pass. */
  readonly onLate: (connection: Connection) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export function createEnrollmentDoor(options: EnrollmentDoorOptions): EnrollmentServer {
  const { door, enrollments, clock, log } = options;

  function enroll(call: Call): void {
    const connection = door.connectionOf(call);
    let deadline: Timer | undefined;
    let attempt: Attempt | undefined;

    const expect = (what: string, withinMs: number): void => {
      deadline?.cancel();
      deadline = clock.after(withinMs, () => {
        options.onLate(connection);
        fail(new RollcallError('DEADLINE_EXCEEDED', `no ${what} in time`));
      });
    };
    const finish = (): void => {
      deadline?.cancel();
      attempt?.close();
    };
    const fail = (thrown: unknown): void => {
      logFault(log, thrown, 'an enrollment');
      finish();
      endCall(call, thrown);
      connection.refused();
    };
    const answer = async ({ step }: EnrollRequest): Promise<void> => {
      if (!attempt || step === undefined) throw new RollcallError('PROTOCOL_INVALID', 'an empty message');
      if (step.$case === 'hello') {
        call.write({ step: { $case: 'challenge', value: attempt.hello(step.value) } });
        expect('proof', limits.proofMs);
        return;
      }
      // Nothing more is read: the proof decides.
      call.pause();
      deadline?.cancel();
      const enrolled = await attempt.proof(step.value);
      finish();
      call.write({ step: { $case: 'enrolled', value: enrolled } });
      call.end();
    };

    call.on('cancelled', finish);
    call.on('end', () => {
      if (!call.writableEnded && !call.isPaused())
        fail(new RollcallError('PROTOCOL_INVALID', 'the stream ended early'));
    });
    call.on('data', (request: EnrollRequest) => void answer(request).catch(fail));
    try {
      attempt = enrollments.begin(peerOf(call, connection, options, finish));
      expect('Hello', limits.helloMs);
    } catch (error) {
      fail(error);
    }
  }

  return { enroll };
}

function peerOf(
  call: Call,
  connection: Connection,
  options: EnrollmentDoorOptions,
  finish: () => void,
): EnrollPeer {
  return {
    remoteAddress: connection.remoteAddress,
    binding: type => (type === 'tls-exporter' ? connection.exporterBinding() : connection.endPointBinding()),
    issued: (nodeId, fingerprint) => options.onIssued(connection, nodeId, fingerprint),
    end(error) {
      finish();
      endCall(call, error);
      return connection.endSoon();
    },
  };
}
