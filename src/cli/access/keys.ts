/** `rollcall keys list|rotate|secret`: the keys of the link that sign tokens. */
import type { KeyRotation, TokenKey } from '../../control-client/answers.js';
import { exitCodes } from '../failure.js';
import { formatMoment } from '../format.js';
import { printHint, type Shell } from '../shell.js';
import type { Column, Row } from '../table.js';
import { openAccess, type AskFlags } from './asking.js';
import { momentOrNull, printDone, printJson, printTable } from './showing.js';

export interface RotateFlags extends AskFlags {
  readonly audience?: string;
  readonly dropOld?: boolean;
}

const columns: readonly Column[] = [
  { header: 'Key' },
  { header: 'Algorithm' },
  { header: 'Audience' },
  { header: 'Use', shade: text => (text === 'signs' ? 'green' : 'dim') },
  { header: 'Created', least: 20 },
  { header: 'Retired', least: 20 },
];

export async function listKeys(shell: Shell, flags: AskFlags): Promise<number> {
  const keys = await (await openAccess(shell, flags)).keys.list();
  if (flags.json) printJson(shell, keys.map(keyJson));
  else printTable(shell, columns, keys.map(keyRow));
  return exitCodes.done;
}

/** A key without an audience serves all that have none of their own. */
function keyRow({ kid, algorithm, audience, createdAt, retiredAt }: TokenKey): Row {
  const use = retiredAt === null ? 'signs' : 'verifies';
  const retired = retiredAt === null ? '' : formatMoment(retiredAt);
  return [kid, algorithm, audience ?? 'all', use, formatMoment(createdAt), retired];
}

function keyJson({ kid, algorithm, audience, createdAt, retiredAt }: TokenKey): object {
  const moments = { createdAt: momentOrNull(createdAt), retiredAt: retiredAt && momentOrNull(retiredAt) };
  return { kid, algorithm, audience, ...moments };
}

export async function rotateKeys(shell: Shell, flags: RotateFlags): Promise<number> {
  const { audience, dropOld, json } = flags;
  const { keys } = await openAccess(shell, flags);
  const rotation = await keys.rotate({
    ...(audience !== undefined && { audience }),
    ...(dropOld && { dropOld }),
  });
  if (json) {
    const { made, retired, dropped } = rotation;
    printJson(shell, {
      made: made.map(keyJson),
      retired: retired.map(keyJson),
      dropped: dropped.map(keyJson),
    });
  } else printRotation(shell, rotation);
  if (dropOld)
    printHint(shell, 'tokens of before are refused; logins go on, API tokens have to be made anew');
  return exitCodes.done;
}

function printRotation(shell: Shell, { made, retired, dropped }: KeyRotation): void {
  for (const key of made) printDone(shell, `Key ${key.kid} signs now${forWhom(key)}.`);
  for (const key of retired) printDone(shell, `Key ${key.kid} verifies still${forWhom(key)}.`);
  for (const key of dropped) printDone(shell, `Key ${key.kid} is gone; no token of it counts any more.`);
  if (made.some(key => key.audience !== null))
    printHint(shell, 'hand new secrets to their audiences: rollcall keys secret AUDIENCE');
}

function forWhom({ algorithm, audience }: TokenKey): string {
  return audience === null ? ` with ${algorithm}` : ` for ${audience}`;
}

const secretColumns: readonly Column[] = [{ header: 'Key' }, { header: 'Secret' }];

/** What an audience with secrets of its own verifies tokens with, the newest first. */
export async function showSecrets(shell: Shell, audience: string, flags: AskFlags): Promise<number> {
  const { keys } = await openAccess(shell, flags);
  const secrets = await keys.secrets(audience);
  if (flags.json) {
    printJson(
      shell,
      secrets.map(({ kid, secret }) => ({ kid, secret })),
    );
  } else {
    const rows = secrets.map(({ kid, secret }) => [kid, secret]);
    printTable(shell, secretColumns, rows);
  }
  printHint(shell, 'who has a secret can make tokens for that audience: hand it to nobody else');
  return exitCodes.done;
}
