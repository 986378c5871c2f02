/** The administration service by promises; a refusal rejects with the RollcallError the link stated. */
import { credentials, Metadata, type ClientReadableStream, type handleUnaryCall } from '@grpc/grpc-js';
import {
  AdministrationClient,
  type AdministrationServer,
  type AdministrationService,
  type ExportedLine,
} from '../../src/protocol/generated/rollcall/v1/administration.js';
import { fromGrpcStatus } from '../../src/protocol/status.js';

export type AdministrationMethod = keyof AdministrationService;
export type UnaryMethod = Exclude<AdministrationMethod, 'exportAudit'>;
type Handled<M> = M extends handleUnaryCall<infer Q, infer A> ? { request: Q; answer: A } : never;
export type RequestOf<M extends UnaryMethod> = Handled<AdministrationServer[M]>['request'];
export type AnswerOf<M extends UnaryMethod> = Handled<AdministrationServer[M]>['answer'];

export interface AdministrationCalls {
  call<M extends UnaryMethod>(method: M, request: RequestOf<M>): Promise<AnswerOf<M>>;
  /** Nothing is read of it before somebody does. */
  openExport(): ClientReadableStream<ExportedLine>;
  /** The whole of it. */
  exportAudit(): Promise<string[]>;
  close(): void;
}

type Refusal = Parameters<typeof fromGrpcStatus>[0];
type Unary = (
  request: unknown,
  metadata: Metadata,
  callback: (error: Refusal | null, answer: unknown) => void,
) => void;

/** A caller without a token. */
export function connectAdministration(
  port: number,
  token: string | undefined,
  ca: string,
): AdministrationCalls {
  const client = new AdministrationClient(`localhost:${port}`, credentials.createSsl(Buffer.from(ca)));
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  const openExport = () => client.exportAudit({}, metadata);
  return {
    call: <M extends UnaryMethod>(method: M, request: RequestOf<M>) =>
      new Promise<AnswerOf<M>>((resolve, reject) => {
        (client[method].bind(client) as unknown as Unary)(request, metadata, (error, answer) => {
          if (error) reject(fromGrpcStatus(error));
          else resolve(answer as AnswerOf<M>);
        });
      }),
    openExport,
    async exportAudit() {
      const lines: string[] = [];
      try {
        for await (const { line } of openExport() as AsyncIterable<ExportedLine>) lines.push(line);
      } catch (error) {
        throw fromGrpcStatus(error as Refusal);
      }
      return lines;
    },
    close: () => client.close(),
  };
}
