/** `rollcall audit verify FILE`: checks an export, offline, and says how far it can be believed. Exit code 1 when it is broken. */
import { verifyExport, type ExportReport, type KeySource } from '../audit-log/verify-export.js';
import { RollcallError } from '../base/errors.js';
import { readSmallFile } from '../base/secret-file.js';
import { maxKeyFileBytes, readPublicKey } from '../identity/key-file.js';
import { toSpkiPem } from '../identity/private-key.js';
import { readCheckpointFile, readLines } from './audit-files.js';
import { exitCodes, reportFailure } from './failure.js';
import { toJson } from './format.js';
import { paintOf, printHint, type Shell } from './shell.js';
import { plainText } from '../base/text.js';
import type { Paint } from './terminal.js';

export interface AuditVerifyFlags {
  readonly checkpoint?: string;
  readonly publicKey?: string;
  readonly json?: boolean;
}

export async function verifyAudit(shell: Shell, file: string, flags: AuditVerifyFlags): Promise<number> {
  const keptCheckpoint =
    flags.checkpoint === undefined ? undefined : await readCheckpointFile(flags.checkpoint);
  const publicKeyPem = flags.publicKey === undefined ? undefined : await readKeyFile(flags.publicKey);
  const report = await verifyExport(readLines(file), { keptCheckpoint, publicKeyPem });
  if (flags.json) shell.stdout.write(`${toJson(report, 2)}\n`);
  else printReport(shell, report);
  return report.ok ? exitCodes.done : exitCodes.refused;
}

async function readKeyFile(path: string): Promise<string> {
  return toSpkiPem(readPublicKey(await readSmallFile(path, 'public key', maxKeyFileBytes), path));
}

const keyWords: Readonly<Record<KeySource, string>> = {
  given: 'the key that was given',
  'kept checkpoint': 'the key of the checkpoint that was kept',
  export: 'the key in the export',
};

function printReport(shell: Shell, report: ExportReport): void {
  shell.stdout.write(describe(report, paintOf(shell)));
  for (const { sentence } of report.problems) {
    // On one line, whatever in the export it quotes.
    reportFailure(shell, new RollcallError('PROOF_REFUSED', plainText(sentence)));
  }
  if (!report.ok) return;
  shell.stdout.write('✅ Every entry fits.\n');
  for (const hint of hintsFor(report)) printHint(shell, hint);
}

function describe(report: ExportReport, paint: Paint): string {
  const facts = factsOf(report).filter(([, value]) => value !== '');
  const width = Math.max(0, ...facts.map(([name]) => name.length));
  return facts.map(([name, value]) => `${paint('dim', name.padEnd(width))}  ${plainText(value)}\n`).join('');
}

function factsOf(report: ExportReport): readonly (readonly [string, string])[] {
  const { tenant, trustDomain, entries, first, last, key, checkpoints, trimmedTo, vouchedTo } = report;
  if (trustDomain === '') return [];
  const holding = checkpoints.filter(({ finding }) => finding === 'holds').length;
  const older = checkpoints.filter(
    ({ finding, seq }) => finding === 'not compared' && seq < trimmedTo,
  ).length;
  return [
    ['Tenant', tenant],
    ['Trust domain', trustDomain],
    ['Entries', entries === 0 ? '0' : `${entries}, from ${first} to ${last}`],
    ['Key', key ? `${key.fingerprint} (${keyWords[key.source]})` : ''],
    ['Trimmed', trimmedTo === 0 ? '' : `up to entry ${trimmedTo}, by the link`],
    [
      'Checkpoints',
      `${holding} of ${checkpoints.length - older} hold${older === 0 ? '' : `, ${older} older than the log`}`,
    ],
    ['Covered', vouchedTo === 0 ? 'no entry' : `up to entry ${vouchedTo}`],
  ];
}

/** Limits of the result that the report must name although nothing is wrong. */
function hintsFor({ key, kept, first, last, trimmedTo, vouchedTo }: ExportReport): string[] {
  const hints: string[] = [];
  if (trimmedTo > 0)
    hints.push(`entries up to ${trimmedTo} left the log after their time; a checkpoint stands for them`);
  if (kept && kept.seq < trimmedTo)
    hints.push(
      `the checkpoint that was kept is of entry ${kept.seq}, which has left the log; keep a newer one`,
    );
  if (vouchedTo < last)
    hints.push(`no checkpoint covers entries ${Math.max(first, vouchedTo + 1)} to ${last}`);
  if (key?.source === 'export' && !kept) {
    hints.push(
      'the key is the one in the export: anyone who made that could have made all of it; give --checkpoint or --public-key',
    );
  } else if (!kept) {
    hints.push(
      'whether the end was cut off shows only against a checkpoint that was kept; give --checkpoint',
    );
  }
  return hints;
}
