/** Asks the link about runs, over gRPC. Every failure comes out as one error that says what to do. */
import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import {
  status as Status,
  type ServiceError,
  type CallOptions,
  type ClientWritableStream,
  type Metadata,
} from '@grpc/grpc-js';
import { RollcallError } from '../base/errors.js';
import { hasStatedCode } from '../protocol/status.js';
import {
  RunsClient as GrpcClient,
  type GetRunRequest,
  type ListRunsRequest,
  type ListRunsResponse,
  type Run,
  type RunLogEntry,
  type RunStatus,
  type StopRunRequest,
  type NewRun,
  type StartRunRequest,
} from '../protocol/generated/rollcall/v1/runs.js';
import { readEvents } from './event-stream.js';
import { bearer, createAsking, openGrpcClient } from './grpc-client.js';
import { explain } from './grpc-failure.js';
import type { HttpTarget } from './http-target.js';
import { everyItem, wholePage, type PageRequest } from './pages.js';
import { withToken, type TokenSource } from './tokens.js';
import { limits } from '../protocol/limits.js';

/** An app that was packed and signed, and the settings it is to run with. */
export interface RunStart {
  readonly appName: string;
  readonly appVersion: string;
  /** SHA-256 of the list of files, hex. */
  readonly appDigest: string;
  /** SPKI DER of the author's app key. */
  readonly signer: Uint8Array;
  readonly signature: Uint8Array;
  readonly archive: Uint8Array;
  /** Settings that differ from the app's own. */
  readonly config?: Readonly<Record<string, string | number | boolean>>;
  /**
   * Chosen by the caller, 1 to 128 printable ASCII characters: the same start with the same key gives the run of the first.
   * Defaults to a random one, so that a start whose answer is lost is sent again.
   */
  readonly idempotencyKey?: string;
  /** Hears how much of the archive was sent. */
  readonly onProgress?: (sentBytes: number) => void;
}

export interface RunFilter {
  /** Any of these. */
  readonly statuses?: readonly RunStatus[];
}

export interface LogOptions {
  /** Only entries after the one of this number. */
  readonly after?: number;
  /** At most so many; all by default. */
  readonly limit?: number;
  /** Goes on with what comes until the run is over, with the run itself in between. */
  readonly follow?: boolean;
  /** Ends the iteration, without an error. */
  readonly signal?: AbortSignal;
  /** The link has said that the log is on its way. */
  readonly onOpen?: () => void;
}

/** A line of the log, or, for who follows, the run as it is now: at the beginning, now and then, and when it is over. */
export type LogEvent =
  | { readonly entry: RunLogEntry; readonly run?: undefined }
  | { readonly run: Run; readonly entry?: undefined };

/** A run's id. NOT_FOUND for one that is not there; NOT_ALLOWED, there or not, for who may see only their own. */
export type RunId = bigint | string;

export interface Runs {
  /**
   * Resolves when it is on the disk of the link. RUN_REFUSED, LINK_BUSY; REQUEST_INVALID for an app that is not what it says;
   * IDEMPOTENCY_KEY_REUSED. After any other failure the run may have been started: the same key tells.
   */
  start(run: RunStart): Promise<Run>;
  get(run: RunId): Promise<Run>;
  /** Every run that is meant, newest first, without settings and results; asked for page by page as the iteration goes. */
  list(filter?: RunFilter): AsyncGenerator<Run, void, undefined>;
  /** One page; `nextPageToken` is empty on the last. */
  listPage(request?: RunFilter & PageRequest): Promise<ListRunsResponse>;
  /** Resolves when it is recorded; a run that is over stays as it is. */
  stop(run: RunId): Promise<Run>;
  /**
   * The log in order. One that is followed ends after the run as it was when it was over. Throws LINK_UNREACHABLE when the
   * link goes away and TOKEN_REFUSED when the token ends: ask again, with `after` the last number that came.
   */
  log(run: RunId, options?: LogOptions): AsyncGenerator<LogEvent, void, undefined>;
}

export interface OpenRuns extends Runs {
  /** Logs that are being read end as by their signal. */
  close(): void;
}

/** Between two tries of a start whose answer was lost, ms; twice as long each time. */
const firstPauseMs = 250;
const maxPauseMs = 4_000;

/** Nothing is sent before the first call. */
export function openRuns(target: HttpTarget, tokens: TokenSource): OpenRuns {
  const client = openGrpcClient(GrpcClient, target);
  const closing = new AbortController();
  const asking = createAsking(target, tokens);
  const calls = {
    get: asking<GetRunRequest, Run>(client.getRun.bind(client)),
    list: asking<ListRunsRequest, ListRunsResponse>(client.listRuns.bind(client)),
    stop: asking<StopRunRequest, Run>(client.stopRun.bind(client)),
  };
  const listPage: Runs['listPage'] = ({ statuses = [], ...page } = {}) =>
    calls.list({ statuses: [...statuses], ...wholePage(page) });

  /** Once everything was sent, a connection that fails tells nothing of the run: the key finds it, or starts it. */
  async function startRun(upload: Upload, token: string): Promise<Run> {
    for (let pauseMs = firstPauseMs; ; pauseMs *= 2) {
      let sentBytes = 0;
      const onProgress = (bytes: number): void => upload.onProgress((sentBytes = bytes));
      try {
        return await uploadRun(client.startRun.bind(client), bearer(token), { ...upload, onProgress });
      } catch (error) {
        const isLost = sentBytes === upload.archive.length && isConnectionLost(error as ServiceError);
        if (!isLost || pauseMs > maxPauseMs) throw await explain(error as ServiceError, target);
      }
      await setTimeout(pauseMs);
    }
  }

  return {
    start(run) {
      const upload = toUpload(run);
      return withToken(tokens, token => startRun(upload, token));
    },
    get: async run => calls.get({ run: readRunId(run) }),
    listPage,
    list: filter =>
      everyItem(async page => {
        const { runs, nextPageToken } = await listPage({ ...filter, ...page });
        return { items: runs, nextPageToken };
      }),
    stop: async run => calls.stop({ run: readRunId(run) }),
    async *log(run, { after = 0, limit = 0, follow = false, signal, onOpen } = {}) {
      const request = { run: readRunId(run), after: BigInt(after), follow, limit };
      const open = (token: string) => client.readRunLog(request, bearer(token));
      const ending = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal;
      for await (const { event } of readEvents(open, target, tokens, { signal: ending, onOpen })) {
        if (event?.$case === 'entry') yield { entry: event.value };
        if (event?.$case === 'run') yield { run: event.value };
      }
    },
    close() {
      closing.abort();
      client.close();
    },
  };
}

function readRunId(run: RunId): bigint {
  if (/^\d{1,20}$/.test(`${run}`) && BigInt(run) < 2n ** 64n) return BigInt(run);
  throw new RollcallError('REQUEST_INVALID', 'the id of a run is a whole number', {
    hint: 'rollcall runs list shows them',
  });
}

function isConnectionLost(error: ServiceError): boolean {
  return error.code === Status.UNAVAILABLE && !hasStatedCode(error);
}

function toUpload({ archive, onProgress = () => undefined, config = {}, ...app }: RunStart): Upload {
  return {
    archive,
    onProgress,
    run: {
      appName: app.appName,
      appVersion: app.appVersion,
      appDigest: Buffer.from(app.appDigest, 'hex'),
      signer: Buffer.from(app.signer),
      signature: Buffer.from(app.signature),
      archiveBytes: BigInt(archive.length),
      configJson: JSON.stringify(config),
      idempotencyKey: app.idempotencyKey ?? randomUUID(),
    },
  };
}

/** For all of it, with the answer, ms: as long as the link takes it in at the most. */
const uploadWithinMs = 15 * 60_000;

type OpenUpload = (
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, run: Run) => void,
) => ClientWritableStream<StartRunRequest>;

interface Upload {
  readonly run: NewRun;
  readonly archive: Uint8Array;
  /** Calls with what was handed over so far. */
  readonly onProgress: (sentBytes: number) => void;
}

/** Rejects with the ServiceError the call ended with. */
async function uploadRun(open: OpenUpload, metadata: Metadata, upload: Upload): Promise<Run> {
  let isAnswered = false;
  let wake = (): void => undefined;
  let call: ClientWritableStream<StartRunRequest> | undefined;
  const answer = new Promise<Run>((resolve, reject) => {
    call = open(metadata, { deadline: Date.now() + uploadWithinMs }, (error, run) => {
      isAnswered = true;
      wake();
      if (error) reject(error);
      else resolve(run);
    });
    call.on('drain', () => wake());
    // The callback has it.
    call.on('error', () => undefined);
  });
  const send = async (part: StartRunRequest['part']): Promise<void> => {
    if (isAnswered || call?.write({ part }) !== false) return;
    await new Promise<void>(resolve => (wake = resolve));
  };
  const sending = async (): Promise<void> => {
    await send({ $case: 'run', value: upload.run });
    for (let at = 0; at < upload.archive.length && !isAnswered; at += limits.pieceBytes) {
      const piece = Buffer.from(upload.archive.subarray(at, at + limits.pieceBytes));
      await send({ $case: 'archive', value: piece });
      upload.onProgress(at + piece.length);
    }
    if (!isAnswered) call?.end();
  };
  const [run] = await Promise.all([answer, sending()]);
  return run;
}
