/**
 * Apps that come in pieces to be run: what is wanted first, then the archive. Bounded in everything: size, silence, slowness,
 * time in all, and how many at once and how much memory one principal, one tenant and all together may have. Memory counts as it
 * arrives, so that announcing an archive takes nothing from anybody.
 */
import type { ServerReadableStream } from '@grpc/grpc-js';
import { archiveBytes as maxArchiveBytes } from '../../../app-package/app-archive.js';
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import { Shares } from '../../../base/shares.js';
import { limits } from '../../../protocol/limits.js';
import type { NewRun, Run, StartRunRequest } from '../../../protocol/generated/rollcall/v1/runs.js';
import { partyOf, type Principal } from '../../access/principal.js';
import type { WantedRun } from '../../run-control.js';
import { readNewRun } from './runs-codec.js';

const mebibyte = 1024 * 1024;

interface Bounds {
  readonly perPrincipal: number;
  readonly perTenant: number;
  readonly inAll: number;
}

export const uploadBounds = {
  /** Uploads at once. */
  places: { perPrincipal: 4, perTenant: 8, inAll: 16 },
  /** Bytes of archives that are being uploaded or started. */
  bytes: { perPrincipal: 64 * mebibyte, perTenant: 128 * mebibyte, inAll: 256 * mebibyte },
  /** Between two pieces, ms. */
  silenceMs: 30_000,
  /** From the first to the last, ms. */
  uploadMs: 15 * 60_000,
  /** Each upload is at least so fast on the whole, after so long, ms. */
  bytesPerSecond: 16 * 1024,
  slowStartMs: 10_000,
} as const;

const lookEveryMs = 1_000;

type UploadCall = ServerReadableStream<StartRunRequest, Run>;

export class Uploads {
  readonly #clock: Clock;
  readonly #places = new Shares();
  readonly #bytes = new Shares();

  constructor({ clock }: { readonly clock: Clock }) {
    this.#clock = clock;
  }

  /** Takes in an app, and gives it to `use`, for as long as which it counts. LINK_BUSY when there are too many. */
  async receive<T>(
    call: UploadCall,
    principal: Principal,
    use: (wanted: WantedRun) => Promise<T>,
  ): Promise<T> {
    take(this.#places, uploadBounds.places, principal, 1);
    const progress = new Progress(call, this.#clock);
    try {
      const reader = call[Symbol.asyncIterator]() as AsyncIterator<StartRunRequest>;
      const run = await readFirst(reader);
      const wanted = readNewRun(run);
      const archive = await readArchive(reader, readArchiveBytes(run), pieceBytes => {
        take(this.#bytes, uploadBounds.bytes, principal, pieceBytes);
        progress.heard(pieceBytes);
      });
      progress.stop();
      return await use({ ...wanted, archive });
    } finally {
      progress.stop();
      giveBack(this.#places, principal, 1);
      giveBack(this.#bytes, principal, progress.receivedBytes);
    }
  }
}

/** The parties that share a limit: the principal, its tenant, all. */
function partiesOf(principal: Principal): readonly (readonly [keyof Bounds, string])[] {
  return [
    ['perPrincipal', `principal ${partyOf(principal)}`],
    ['perTenant', `tenant ${principal.tenant}`],
    ['inAll', 'all'],
  ];
}

/** All or nothing; LINK_BUSY when a share does not have so much. */
function take(shares: Shares, bounds: Bounds, principal: Principal, amount: number): void {
  const parties = partiesOf(principal);
  if (parties.some(([bound, party]) => shares.of(party) + amount > bounds[bound])) throw tooMany();
  for (const [, party] of parties) shares.take(party, amount);
}

function giveBack(shares: Shares, principal: Principal, amount: number): void {
  for (const [, party] of partiesOf(principal)) shares.giveBack(party, amount);
}

/** Destroys a call that is silent, too slow, or takes for ever; its reader throws. */
class Progress {
  readonly #call: UploadCall;
  readonly #clock: Clock;
  readonly #startedAt: number;
  readonly #timer: Timer;
  #heardAt: number;
  #receivedBytes = 0;

  constructor(call: UploadCall, clock: Clock) {
    this.#call = call;
    this.#clock = clock;
    this.#startedAt = this.#heardAt = clock.elapsed();
    this.#timer = clock.every(lookEveryMs, () => this.#look());
  }

  /** Of the archive. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  heard(bytes: number): void {
    this.#heardAt = this.#clock.elapsed();
    this.#receivedBytes += bytes;
  }

  stop(): void {
    this.#timer.cancel();
  }

  #look(): void {
    const now = this.#clock.elapsed();
    const sinceMs = now - this.#startedAt;
    const dueBytes = ((sinceMs - uploadBounds.slowStartMs) * uploadBounds.bytesPerSecond) / 1000;
    const isSilent = now - this.#heardAt > uploadBounds.silenceMs;
    if (!isSilent && sinceMs <= uploadBounds.uploadMs && this.#receivedBytes >= dueBytes) return;
    this.stop();
    this.#call.destroy(
      new RollcallError('DEADLINE_EXCEEDED', 'the app did not come in time', {
        hint: `at least ${uploadBounds.bytesPerSecond / 1024} KiB/s; an app may be small, its data is elsewhere`,
      }),
    );
  }
}

async function readFirst(reader: AsyncIterator<StartRunRequest>): Promise<NewRun> {
  const next = await reader.next();
  const first = next.done === true ? undefined : next.value.part;
  if (first?.$case === 'run') return first.value;
  throw outOfOrder('what to run comes first');
}

function readArchiveBytes({ archiveBytes }: NewRun): number {
  if (archiveBytes > 0n && archiveBytes <= BigInt(maxArchiveBytes)) return Number(archiveBytes);
  throw new RollcallError('REQUEST_INVALID', 'the archive of an app is of a size that none has', {
    hint: `at most ${maxArchiveBytes} bytes; big data does not travel with an app`,
  });
}

/** As many bytes as were announced, no more and no fewer. */
async function readArchive(
  reader: AsyncIterator<StartRunRequest>,
  archiveBytes: number,
  onPiece: (bytes: number) => void,
): Promise<Buffer> {
  // Memory that nobody has written to takes no room on the machine yet.
  const archive = Buffer.allocUnsafe(archiveBytes);
  let received = 0;
  for (let next = await reader.next(); next.done !== true; next = await reader.next()) {
    const { part } = next.value;
    if (part?.$case !== 'archive') throw outOfOrder('after it come pieces of the archive alone');
    const piece = part.value;
    if (piece.length === 0 || piece.length > limits.pieceBytes)
      throw outOfOrder(`a piece has 1 to ${limits.pieceBytes} bytes`);
    if (received + piece.length > archiveBytes) throw outOfOrder('there is more of it than was announced');
    onPiece(piece.length);
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
