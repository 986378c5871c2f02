/** One enrollment on a connection: Hello, Challenge, Proof, Enrolled, with a deadline for the proof. */
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Hello, Proof } from '../../../protocol/generated/rollcall/v1/enrollment.js';
import type { LinkFrame } from '../../../protocol/generated/rollcall/v1/link.js';
import { limits } from '../../../protocol/limits.js';
import type { Attempt, EnrollPeer, Enrollments } from '../../enrollment/enrollments.js';

export interface EnrollingOptions {
  readonly enrollments: Enrollments;
  readonly peer: EnrollPeer;
  readonly clock: Clock;
  readonly send: (frame: NonNullable<LinkFrame['frame']>) => void;
  /** The proof did not come in time. */
  readonly onLate: (error: RollcallError) => void;
}

export class Enrolling {
  readonly #options: EnrollingOptions;
  readonly #attempt: Attempt;
  #deadline: Timer | undefined;

  /** Throws LINK_BUSY when there are too many enrollments. */
  constructor(options: EnrollingOptions) {
    this.#options = options;
    this.#attempt = options.enrollments.begin(options.peer);
  }

  hello(hello: Hello): void {
    const { clock, send, onLate } = this.#options;
    send({ $case: 'challenge', value: this.#attempt.hello(hello) });
    this.#deadline = clock.after(limits.proofMs, () =>
      onLate(new RollcallError('DEADLINE_EXCEEDED', 'no proof in time')),
    );
  }

  async proof(proof: Proof): Promise<void> {
    this.#deadline?.cancel();
    const enrolled = await this.#attempt.proof(proof);
    this.#options.send({ $case: 'enrolled', value: enrolled });
  }

  close(): void {
    this.#deadline?.cancel();
    this.#attempt.close();
  }
}
