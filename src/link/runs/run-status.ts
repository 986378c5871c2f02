/**
 * The state machine of a run, pure: pending → starting → running → finished (completed, failed, stopped). What is
 * finished stays as it is, whatever comes later.
 */
import type { Actor, AuditEvent } from '../audit/audit.js';
import type { RunOutcomeName, RunRecord } from './run-record.js';

export type RunEvent =
  /** Its server half was given to be started. */
  | {
      readonly type: 'starting';
      readonly at: number;
      readonly hostedBy: 'process' | 'subprocess';
      readonly tokenHash: string;
    }
  /** Why it waits. */
  | { readonly type: 'waiting'; readonly reason: string }
  /** Its server half has loaded and begun. */
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

/** Undefined where the event changes nothing. */
export function decideRun(before: RunRecord, event: RunEvent): RunDecision | undefined {
  if (before.status === 'finished') return undefined;
  switch (event.type) {
    case 'waiting':
      if (before.status !== 'pending' || before.reason === event.reason) return undefined;
      return { record: { ...before, reason: event.reason }, audit: [] };
    case 'starting': {
      // Again, when the link went away before its server half had begun.
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
