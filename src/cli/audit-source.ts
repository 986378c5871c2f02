/** Where the `audit` commands get the log from: the link, asked for the tenant of who asks. */
import type { Checkpoint } from '../audit-log/checkpoint.js';
import type { AuditEntry } from '../audit-log/entry.js';
import type { ControlFlags } from './control-options.js';
import type { Progress } from './progress.js';
import type { Shell } from './shell.js';

export interface AuditQuery {
  /** At most so many entries. */
  readonly limit: number;
  readonly newestFirst: boolean;
  /** `next` of the page before. */
  readonly from?: number | undefined;
  readonly typePrefix?: string | undefined;
  readonly subject?: string | undefined;
  readonly by?: string | undefined;
  /** Not before this moment, milliseconds since 1970. */
  readonly since?: number | undefined;
  /** Before this moment, milliseconds since 1970. */
  readonly until?: number | undefined;
}

export interface AuditPage {
  readonly entries: readonly AuditEntry[];
  /** Numbers of entries that the link cannot read. */
  readonly damaged: readonly number[];
  /** Undefined at the end; a page may be empty and not the last. */
  readonly next: number | undefined;
}

export interface AuditSource {
  listEvents(query: AuditQuery): Promise<AuditPage>;
  /** The whole log as src/audit-log/export-line.ts has it, without line ends. */
  exportLines(): AsyncIterable<string>;
  /** Of the newest entry, made for this question when there is none. */
  latestCheckpoint(): Promise<Checkpoint>;
}

/** Asks the link the flags name; what it opened is closed, and the progress gone, however it ends. */
export type AskAudit = (
  shell: Shell,
  flags: ControlFlags,
  ask: (source: AuditSource, progress: Pick<Progress, 'say' | 'clear'>) => Promise<number | undefined>,
) => Promise<number>;
