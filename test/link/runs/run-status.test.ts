/** The state machine of a run: every event in every status. */
import t from 'tap';
import { linkParty } from '../../../src/audit-log/party.js';
import { runOutcomeNames, type RunRecord } from '../../../src/link/runs/run-record.js';
import { decideRun, type RunEvent } from '../../../src/link/runs/run-status.js';
import { userParty } from '../../harness/parties.js';
import { pendingRun } from './fixtures/records.js';

const events: Readonly<Record<RunEvent['type'], RunEvent>> = {
  waiting: { type: 'waiting', reason: 'waiting for an app host' },
  starting: { type: 'starting', at: 2_000, hostedBy: 'process', tokenHash: 'ef'.repeat(32) },
  running: { type: 'running', at: 3_000 },
  finished: {
    type: 'finished',
    ...{ at: 4_000, outcome: 'completed', reason: 'completed', result: '[1]', by: linkParty },
  },
};

const records: Readonly<Record<RunRecord['status'], RunRecord>> = {
  pending: pendingRun,
  starting: { ...pendingRun, status: 'starting', startingAt: 1_500, hostedBy: 'process', tokenHash: '00' },
  running: { ...pendingRun, status: 'running', runningAt: 1_800, hostedBy: 'process', tokenHash: '00' },
  finished: { ...pendingRun, status: 'finished', outcome: 'stopped', finishedAt: 1_900 },
};

void t.test('every event in every status of a run leads to the status in the table', t => {
  const table: Readonly<Record<RunRecord['status'], Partial<Record<RunEvent['type'], string>>>> = {
    pending: { waiting: 'pending', starting: 'starting', finished: 'finished' },
    // Once more, when the link went away before its server half had begun.
    starting: { starting: 'starting', running: 'running', finished: 'finished' },
    running: { finished: 'finished' },
    finished: {},
  };
  for (const [status, record] of Object.entries(records))
    for (const [name, event] of Object.entries(events))
      t.equal(
        decideRun(record, event)?.record.status,
        table[record.status][event.type],
        `${name} while it is ${status}`,
      );
  t.end();
});

void t.test('an event changes only its own fields of the record', t => {
  t.same(decideRun(records.pending, events.waiting), {
    record: { ...records.pending, reason: 'waiting for an app host' },
    audit: [],
  });
  t.same(decideRun(records.pending, events.starting), {
    record: {
      ...records.pending,
      ...{ status: 'starting', reason: 'starting', startingAt: 2_000 },
      ...{ hostedBy: 'process', tokenHash: 'ef'.repeat(32) },
    },
    audit: [],
  });
  t.same(decideRun(records.starting, events.running), {
    record: { ...records.starting, status: 'running', reason: 'running', runningAt: 3_000 },
    audit: [],
  });
  t.end();
});

void t.test('a waiting event with the same reason changes nothing', t => {
  const waiting = decideRun(records.pending, events.waiting)?.record;
  t.ok(waiting);
  t.equal(waiting && decideRun(waiting, events.waiting), undefined);
  t.end();
});

void t.test('every end of a run is one audit event with its outcome and actor', t => {
  for (const outcome of runOutcomeNames) {
    const by = { ...userParty('ada'), address: '192.0.2.1' };
    const decision = decideRun(records.running, {
      type: 'finished',
      ...{ at: 9, outcome, reason: 'why', by },
    });
    t.same(decision?.record, {
      ...records.running,
      ...{ status: 'finished', outcome, reason: 'why', result: '', finishedAt: 9 },
    });
    t.same(decision?.audit, [
      {
        type: outcome === 'stopped' ? 'run.stopped' : 'run.finished',
        subject: `${pendingRun.id}`,
        by,
        detail: { app: 'digits', outcome, reason: 'why' },
      },
    ]);
  }
  t.end();
});
