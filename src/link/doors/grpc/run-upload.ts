/**
 * Apps that come in pieces to be run: what is wanted first, then the archive. Bounded in everything – size, silence, time in all, how
 * many at once from one principal and from all, and the memory they take together – before the first piece is kept.
 */
import type { ServerReadableStream } from '@grpc/grpc-js';
import { archiveBytes as largestArchive } from '../../../app-package/app-archive.js';
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import { limits } from '../../../protocol/limits.js';
import type { NewRun, Run, StartRunRequest } from '../../../protocol/generated/rollcall/v1/runs.js';
import type { Principal } from '../../access/principal.js';
import type { WantedRun } from '../../run-control.js';
import { readNewRun } from './runs-codec.js';

const mebibyte = 1024 * 1024;

export const uploadLimits = {
  perPrincipal: 4,
  inAll: 16,
  /** What the archives that are coming in may take together. */
  bytesInAll: 256 * mebibyte,
  /** Between two pieces, ms. */
  silenceMs: 30_000,
  /** From the first to the last, ms. */
  uploadMs: 15 * 60_000,
} as const;

type UploadCall = ServerReadableStream<StartRunRequest, Run>;

export interface Uploads {
  /** Takes in an app, and gives it to `use`, for as long as which it counts. LINK_BUSY when there are too many. */
  receive<T>(call: UploadCall, principal: Principal, use: (wanted: WantedRun) => Promise<T>): Promise<T>;
}

export function createUploads({ clock }: { readonly clock: Clock }): Uploads {
  const perPrincipal = new Map<string, number>();
  let inAll = 0;
  let bytes = 0;

  /** Gives what makes room again. */
  function takePlace({ tenant, id }: Principal): () => void {
    const who = `${tenant} ${id}`;
    const own = perPrincipal.get(who) ?? 0;
    if (own >= uploadLimits.perPrincipal || inAll >= uploadLimits.inAll) throw tooMany();
    perPrincipal.set(who, own + 1);
    inAll += 1;
    return () => {
      inAll -= 1;
      const left = (perPrincipal.get(who) ?? 1) - 1;
      if (left > 0) perPrincipal.set(who, left);
      else perPrincipal.delete(who);
    };
  }

  function takeMemory(wanted: number): () => void {
    if (bytes + wanted > uploadLimits.bytesInAll) throw tooMany();
    bytes += wanted;
    return () => void (bytes -= wanted);
  }

  return {
    async receive(call, principal, use) {
      const giveBack = [takePlace(principal)];
      const deadlines = startDeadlines(call, clock);
      try {
        const reader = call[Symbol.asyncIterator]() as AsyncIterator<StartRunRequest>;
        deadlines.heard();
        const run = await readFirst(reader);
        const wanted = readNewRun(run);
        const archiveBytes = readArchiveBytes(run);
        giveBack.push(takeMemory(archiveBytes));
        const archive = await readArchive(reader, archiveBytes, () => deadlines.heard());
        deadlines.cancel();
        return await use({ ...wanted, archive });
      } finally {
        deadlines.cancel();
        for (const each of giveBack) each();
      }
    },
  };
}

/** A call that is silent, or that takes for ever, is destroyed: whoever reads it throws. */
function startDeadlines(call: UploadCall, clock: Clock): { heard(): void; cancel(): void } {
  const end = (): void => {
    call.destroy(
      new RollcallError('DEADLINE_EXCEEDED', 'the app did not come in time', {
        hint: 'is the connection very slow? an app may be small, its data is elsewhere',
      }),
    );
  };
  const whole = clock.after(uploadLimits.uploadMs, end);
  let silence: Timer | undefined;
  return {
    heard() {
      silence?.cancel();
      silence = clock.after(uploadLimits.silenceMs, end);
    },
    cancel() {
      silence?.cancel();
      whole.cancel();
    },
  };
}

async function readFirst(reader: AsyncIterator<StartRunRequest>): Promise<NewRun> {
  const next = await reader.next();
  const first = next.done === true ? undefined : next.value.part;
  if (first?.$case === 'run') return first.value;
  throw outOfOrder('what to run comes first');
}

function readArchiveBytes({ archiveBytes }: NewRun): number {
  if (archiveBytes > 0n && archiveBytes <= BigInt(largestArchive)) return Number(archiveBytes);
  throw new RollcallError('REQUEST_INVALID', 'the archive of an app is of a size that none has', {
    hint: `at most ${largestArchive} bytes; big data does not travel with an app`,
  });
}

/** As many bytes as were announced, no more and no fewer. */
async function readArchive(
  reader: AsyncIterator<StartRunRequest>,
  archiveBytes: number,
  onPiece: () => void,
): Promise<Buffer> {
  const archive = Buffer.allocUnsafe(archiveBytes);
  let received = 0;
  for (let next = await reader.next(); next.done !== true; next = await reader.next()) {
    onPiece();
    const { part } = next.value;
    if (part?.$case !== 'archive') throw outOfOrder('after it come pieces of the archive alone');
    const piece = part.value;
    if (piece.length === 0 || piece.length > limits.pieceBytes)
      throw outOfOrder(`a piece has 1 to ${limits.pieceBytes} bytes`);
    if (received + piece.length > archiveBytes) throw outOfOrder('there is more of it than was announced');
    piece.copy(archive, received);
    received += piece.length;
  }
  if (received === archiveBytes) return archive;
  throw outOfOrder('there is less of it than was announced');
}

function outOfOrder(what: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `this is no app to run: ${what}`);
}

function tooMany(): RollcallError {
  return new RollcallError('LINK_BUSY', 'too many apps are coming in at once', {
    hint: 'try again in a while',
  });
}
