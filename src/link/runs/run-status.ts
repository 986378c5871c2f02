/**
 * The state machine of a run, pure: pending → starting → running → finished (completed, failed, stopped). A finished run never
 * changes.
 */
import type { Actor, AuditEvent } from '../audit/audit.js';
import type { RunOutcomeName, RunRecord } from './run-record.js';

export type RunEvent =
  /** Its server half was ordered from a hosting. */
  | {
      readonly type: 'starting';
      readonly at: number;
      readonly hostedBy: 'process' | 'subprocess';
      readonly tokenHash: string;
    }
  /** The run waits, for this reason. */
  | { readonly type: 'waiting'; readonly reason: string }
  /** Its server half has loaded. */
  | { readonly type: 'running'; readonly at: number }
  | {
      readonly type: 'finished';
      readonly at: number;
      readonly outcome: RunOutcomeName;
      readonly reason: string;
      readonly result?: string;
      readonly by: Actor;
    };

/** How a run ended, why, and who or what ended it. */
export type RunEnding = Omit<Extract<RunEvent, { type: 'finished' }>, 'type' | 'at'>;

export interface RunDecision {
  readonly record: RunRecord;
  readonly audit: readonly AuditEvent[];
}

/** Undefined if the event changes nothing. */
export function decideRun(before: RunRecord, event: RunEvent): RunDecision | undefined {
  if (before.status === 'finished') return undefined;
  switch (event.type) {
    case 'waiting':
      if (before.status !== 'pending' || before.reason === event.reason) return undefined;
      return { record: { ...before, reason: event.reason }, audit: [] };
    case 'starting': {
      // A run that is starting starts again if the link was restarted before the server half had loaded.
      if (before.status === 'running') return undefined;
      const { at, hostedBy, tokenHash } = event;
      return {
        record: { ...before, status: 'starting', reason: 'starting', startingAt: at, hostedBy, tokenHash },
        audit: [],
      };
    }
    case 'running':
      if (before.status !== 'starting') return undefined;
      return { record: { ...before, status: 'running', reason: 'running', runningAt: event.at }, audit: [] };
    case 'finished':
      return finish(before, event);
  }
}

function finish(before: RunRecord, event: Extract<RunEvent, { type: 'finished' }>): RunDecision {
  const { at, outcome, reason, result = '', by } = event;
  return {
    record: { ...before, status: 'finished', outcome, reason, result, finishedAt: at },
    audit: [
      {
        type: outcome === 'stopped' ? 'run.stopped' : 'run.finished',
        subject: `${before.id}`,
        by,
        detail: { app: before.app.name, outcome, reason },
      },
    ],
  };
}
