/** A run as the command shows it: words, table cells, JSON, and the exit code that stands for how it ended. Pure. */
import { runOutcomeName, runStatusName } from '../../control-client/run-status.js';
import type { Run } from '../../protocol/generated/rollcall/v1/runs.js';
import { exitCodes } from '../failure.js';
import { formatRfc3339 } from '../../base/rfc3339.js';
import { formatCount, formatElapsed, formatMoment } from '../format.js';
import type { Column, Row } from '../table.js';
import type { Shade } from '../terminal.js';

const shades: Partial<Record<string, Shade>> = {
  pending: 'dim',
  starting: 'dim',
  running: 'green',
  failed: 'red',
  stopped: 'yellow',
};

export function runShade(word: string): Shade | undefined {
  return shades[word];
}

/** How it ended, or how it is. */
export function runWord(run: Run): string {
  return runOutcomeName(run) ?? runStatusName(run.status);
}

export function isFinished(run: Run): boolean {
  return runOutcomeName(run) !== undefined;
}

/** 0 completed, 1 failed, 5 stopped. */
export function outcomeCode(run: Run): number {
  const codes: Partial<Record<string, number>> = { completed: exitCodes.done, stopped: exitCodes.stopped };
  return codes[runWord(run)] ?? exitCodes.refused;
}

export const runColumns: readonly Column[] = [
  { header: 'Run ID', minWidth: 20 },
  { header: 'App', roomy: 20, clipTo: 10 },
  { header: 'Status', minWidth: 9, shade: runShade },
  { header: 'Started By', roomy: 12, clipTo: 10, dropRank: 2 },
  { header: 'Started @', minWidth: 20, dropRank: 4 },
  { header: 'Elapsed', minWidth: 8, roomy: 12, dropRank: 3 },
  { header: 'Nodes', roomy: 5, dropRank: 1 },
  { header: 'Messages', roomy: 12 },
];

export function runRow(run: Run, nowMs: number): Row {
  return [
    `${run.id}`,
    `${run.appName} ${run.appVersion}`,
    runWord(run),
    run.startedBy,
    formatMoment(run.createdAtMs),
    elapsedOf(run, nowMs),
    `${run.nodes}`,
    `${run.messagesAnswered}/${run.messagesSent}`,
  ];
}

/** From its start to its end, or to now. */
export function elapsedOf(run: Run, nowMs: number): string {
  const end = run.finishedAtMs === 0n ? nowMs : Number(run.finishedAtMs);
  return formatElapsed(end - Number(run.createdAtMs));
}

/** `40 messages to 2 nodes, one failed`. */
export function describeMessages(run: Run): string {
  if (run.messagesSent === 0n) return 'no messages';
  const sent = `${formatCount(Number(run.messagesSent), 'message')} to ${formatCount(run.nodes, 'node')}`;
  const open = run.messagesSent - run.messagesAnswered;
  return [
    sent,
    ...(open > 0n ? [`${open} not answered`] : []),
    ...(run.messagesFailed > 0n ? [`${run.messagesFailed} failed`] : []),
  ].join(', ');
}

/** Unknown values are null; the keys are always the same, except settings and result, which lists leave out. */
export function runJson(run: Run): Record<string, unknown> {
  const moment = (ms: bigint) => formatRfc3339(ms) ?? null;
  return {
    id: `${run.id}`,
    tenant: run.tenant,
    status: runStatusName(run.status),
    outcome: runOutcomeName(run) ?? null,
    reason: run.reason === '' ? null : run.reason,
    app: {
      name: run.appName,
      version: run.appVersion,
      digest: run.appDigest.toString('hex'),
      signer: run.signer,
    },
    startedBy: run.startedBy,
    createdAt: moment(run.createdAtMs),
    startingAt: moment(run.startingAtMs),
    runningAt: moment(run.runningAtMs),
    finishedAt: moment(run.finishedAtMs),
    nodes: run.nodes,
    messages: {
      sent: Number(run.messagesSent),
      answered: Number(run.messagesAnswered),
      failed: Number(run.messagesFailed),
    },
    logLines: Number(run.logLines),
    ...(run.configJson !== '' && { config: parseOr(run.configJson), result: parseOr(run.resultJson) }),
  };
}

/** JSON that the link gave; what is not JSON stays text, and empty text is null. */
export function parseOr(json: string): unknown {
  if (json === '') return null;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return json;
  }
}
