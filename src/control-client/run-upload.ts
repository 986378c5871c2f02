/** Sends an app to be run: in pieces, no faster than the link takes them, and no further once the link has said no. */
import type { CallOptions, ClientWritableStream, Metadata, ServiceError } from '@grpc/grpc-js';
import { limits } from '../protocol/limits.js';
import type { NewRun, Run, StartRunRequest } from '../protocol/generated/rollcall/v1/runs.js';

/** For all of it, with the answer, ms: as long as the link takes it in at the most. */
const uploadWithinMs = 15 * 60_000;

export type OpenUpload = (
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, run: Run) => void,
) => ClientWritableStream<StartRunRequest>;

export interface Upload {
  readonly run: NewRun;
  readonly archive: Uint8Array;
  /** Calls with what was handed over so far. */
  readonly onProgress: (sentBytes: number) => void;
}

/** Rejects with the ServiceError the call ended with. */
export async function uploadRun(open: OpenUpload, metadata: Metadata, upload: Upload): Promise<Run> {
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
