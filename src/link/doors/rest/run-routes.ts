/**
 * /v1/runs: thin translations of src/link/run-control.ts. A run is not started here: an app is packed and signed by the
 * command, and comes over gRPC.
 */
import { RollcallError } from '../../../base/errors.js';
import type { RunControl } from '../../run-control.js';
import {
  runStatusNames,
  type RunLogEntry,
  type RunRecord,
  type RunStatusName,
} from '../../runs/run-record.js';
import type { RunQuery } from '../../runs/runs.js';
import type { RouteName } from '../access-table.js';
import { known, readNumber, type Exchange, type Route } from './route.js';
import { anyText, objectOf, text } from './schemas.js';

type RunRoute = Extract<RouteName, `${string} /v1/runs${string}`>;

export function runRoutes(runs: RunControl): Record<RunRoute, Route> {
  const by = ({ principal }: Exchange) => known(principal);
  return {
    'GET /v1/runs': {
      does: 'runs, a page at a time',
      schema: {
        querystring: objectOf({}, { status: anyText(100), pageSize: text(4), pageToken: text(300) }),
      },
      async answer(exchange) {
        const page = await runs.listRuns(by(exchange), readQuery(exchange));
        return { runs: page.runs.map(viewListedRun), nextPageToken: page.nextPageToken };
      },
    },
    'GET /v1/runs/:run': {
      does: 'one run, with its result',
      answer: async exchange => viewRun(await runs.getRun(by(exchange), runOf(exchange))),
    },
    'GET /v1/runs/:run/log': {
      does: 'lines of its log after a number',
      schema: { querystring: objectOf({}, { after: text(15), limit: text(4) }) },
      async answer(exchange) {
        const after = readNumber(exchange, 'after') ?? 0;
        const limit = readNumber(exchange, 'limit') ?? 100;
        const entries = await runs.readLog(by(exchange), runOf(exchange), after, limit);
        // The log may grow, so there is always a number to continue from.
        return { entries: entries.map(viewEntry), next: entries.at(-1)?.number ?? after };
      },
    },
    'POST /v1/runs/:run/stop': {
      does: 'stops it',
      answer: async exchange => viewRun(await runs.stopRun(by(exchange), runOf(exchange))),
    },
  };
}

/** No run has the id 0, so an invalid id is answered like an unknown one. */
function runOf({ parameters }: Exchange): bigint {
  const id = parameters['run'] ?? '';
  return /^[1-9]\d{0,19}$/.test(id) ? BigInt(id) : 0n;
}

function readQuery(exchange: Exchange): RunQuery {
  const { status = '', pageToken } = exchange.query;
  return {
    statuses: status === '' ? [] : status.split(',').map(readStatus),
    pageSize: readNumber(exchange, 'pageSize'),
    pageToken,
  };
}

function readStatus(text: string): RunStatusName {
  const status = runStatusNames.find(each => each === text);
  if (status) return status;
  throw new RollcallError('REQUEST_INVALID', 'unknown run status', {
    hint: `known: ${runStatusNames.join(', ')}`,
  });
}

function viewRun(record: RunRecord): object {
  return {
    ...viewListedRun(record),
    config: record.config,
    result: record.result === '' ? null : readResult(record.result),
  };
}

/** Without settings and result: those of a thousand runs would be too much for one answer. */
function viewListedRun({ app, ...record }: RunRecord): object {
  return {
    id: `${record.id}`,
    tenant: record.tenant,
    status: record.status,
    outcome: record.outcome ?? null,
    reason: record.reason,
    app: { name: app.name, version: app.version, digest: app.digest, signer: app.signerFingerprint },
    startedBy: record.startedBy,
    createdAt: viewMoment(record.createdAt),
    startingAt: viewMoment(record.startingAt),
    runningAt: viewMoment(record.runningAt),
    finishedAt: viewMoment(record.finishedAt),
    counts: record.counts,
  };
}

function viewMoment(at: number): string | null {
  return at === 0 ? null : new Date(at).toISOString();
}

function viewEntry({ number, at, node, level, text }: RunLogEntry): object {
  return { number, at: new Date(at).toISOString(), node: node === 0n ? null : `${node}`, level, text };
}

function readResult(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    throw new RollcallError('INTERNAL', 'the stored result of this run is damaged');
  }
}
