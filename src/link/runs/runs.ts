/** The runs of the link. */
import type { ConfigValue } from '../../app-package/app-manifest.js';
import type { Actor } from '../audit/audit.js';
import type { RunLogEntry, RunRecord, RunStatusName } from './run-record.js';

export interface NewRun {
  readonly tenant: string;
  readonly appName: string;
  readonly appVersion: string;
  /** Hex. */
  readonly appDigest: string;
  /** SPKI DER. */
  readonly signer: Uint8Array;
  readonly signature: Uint8Array;
  /** src/app-package/app-archive.ts */
  readonly archive: Buffer;
  /** What differs from the settings of the app. */
  readonly config: Readonly<Record<string, ConfigValue>>;
  readonly startedBy: string;
  readonly by: Actor;
}

export interface RunQuery {
  readonly statuses?: readonly RunStatusName[] | undefined;
  /** Only those somebody started. */
  readonly startedBy?: string | undefined;
  readonly pageSize?: number | undefined;
  readonly pageToken?: string | undefined;
}

export interface RunPage {
  /** Newest first. */
  readonly runs: readonly RunRecord[];
  /** Empty on the last page. */
  readonly nextPageToken: string;
}

export interface Runs {
  /** REQUEST_INVALID for an app that is not what it says, RUN_REFUSED where runs cannot be hosted. On the disk when it resolves. */
  start(run: NewRun): Promise<RunRecord>;
  find(tenant: string, id: bigint): Promise<RunRecord | undefined>;
  list(tenant: string, query: RunQuery): Promise<RunPage>;
  /** NOT_FOUND. One that is over stays as it is. */
  stop(tenant: string, id: bigint, by: Actor): Promise<RunRecord>;
  /** In order, those after a number. */
  readLog(tenant: string, id: bigint, after: number, limit: number): Promise<RunLogEntry[]>;
  /** Calls after every change of the record, its counts or its log; often, so that the listener looks when it has time. */
  watch(id: bigint, listener: () => void): () => void;
}
