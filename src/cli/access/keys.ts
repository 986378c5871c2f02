/** `rollcall keys list|rotate|secret`: the keys of the link that sign tokens. */
import type { KeyRotation, TokenKey } from '../../control-client/answers.js';
import { exitCodes } from '../failure.js';
import { formatMoment } from '../format.js';
import { printHint, type Shell } from '../shell.js';
import type { Column, Row } from '../table.js';
import { openAccess, type AskFlags } from './with-link.js';
import { momentOrNull, printDone, printJson, printTable } from './showing.js';

export interface RotateFlags extends AskFlags {
  readonly audience?: string;
  readonly dropOld?: boolean;
  readonly now?: boolean;
}

const columns: readonly Column[] = [
  { header: 'Key' },
  { header: 'Algorithm', dropRank: 3 },
  { header: 'Audience', clipTo: 8, dropRank: 5 },
  { header: 'Use', shade: text => (text === 'signs' ? 'green' : 'dim') },
  { header: 'Published', minWidth: 20, dropRank: 1 },
  { header: 'Signs From', minWidth: 20, dropRank: 4 },
  { header: 'Until', minWidth: 20, dropRank: 2 },
];

export async function listKeys(shell: Shell, flags: AskFlags): Promise<number> {
  const keys = await (await openAccess(shell, flags)).keys.list();
  if (flags.json) printJson(shell, keys.map(keyJson));
  else
    printTable(
      shell,
      columns,
      keys.map(key => keyRow(key, keys)),
    );
  return exitCodes.done;
}

/** A key without an audience serves all that have none of their own. */
function keyRow(key: TokenKey, keys: readonly TokenKey[]): Row {
  const { kid, algorithm, audience, createdAt, signsAt, retiredAt } = key;
  const use = isBehindNext(key, keys) ? 'later' : key.use;
  const moments = [createdAt, signsAt, retiredAt].map(each => (each === null ? '' : formatMoment(each)));
  return [kid, algorithm, audience ?? 'all', use, ...moments];
}

/** It follows a key that waits as well, for the hour until it signs. */
function isBehindNext(key: TokenKey, keys: readonly TokenKey[]): boolean {
  return (
    key.use === 'next' &&
    key.signsAt === null &&
    keys.some(
      other =>
        other.use === 'next' &&
        other.signsAt !== null &&
        other.algorithm === key.algorithm &&
        other.audience === key.audience,
    )
  );
}

function keyJson({ kid, algorithm, audience, use, createdAt, signsAt, retiredAt }: TokenKey): object {
  return {
    ...{ kid, algorithm, audience, use, createdAt: momentOrNull(createdAt) },
    signsAt: signsAt === null ? null : momentOrNull(signsAt),
    retiredAt: retiredAt === null ? null : momentOrNull(retiredAt),
  };
}

export async function rotateKeys(shell: Shell, flags: RotateFlags): Promise<number> {
  const { audience, dropOld, now, json } = flags;
  const { keys } = await openAccess(shell, flags);
  const rotation = await keys.rotate({
    ...(audience !== undefined && { audience }),
    ...(dropOld && { dropOld }),
    ...(now && { now }),
  });
  if (json) {
    const { made, signing, retired, dropped } = rotation;
    printJson(shell, {
      made: made.map(keyJson),
      signing: signing.map(keyJson),
      retired: retired.map(keyJson),
      dropped: dropped.map(keyJson),
    });
  } else printRotation(shell, rotation);
  if (rotation.signing.some(key => key.use === 'signs' && isUnknownToVerifiers(key)))
    printHint(
      shell,
      'verifiers that keep a set of keys refuse new tokens until they fetch it again: jose and PyJWT up to 30 seconds, keyfunc 5 minutes, jwx 15 (docs/verifiers.md)',
    );
  if (rotation.signing.some(key => key.use === 'next'))
    printHint(
      shell,
      'verifiers fetch the key meanwhile; with --now it signs at once, and verifiers that have not fetched it refuse its tokens for up to 15 minutes (docs/verifiers.md)',
    );
  if (dropOld)
    printHint(shell, 'tokens of before are refused; logins go on, API tokens have to be made anew');
  return exitCodes.done;
}

/** Published for so short a time that a verifier may know only the keys of before, ms. */
const knownAfterMs = 3_600_000;

function isUnknownToVerifiers({ audience, createdAt, signsAt }: TokenKey): boolean {
  return audience === null && signsAt !== null && signsAt - createdAt < knownAfterMs;
}

function printRotation(shell: Shell, { made, signing, retired, dropped }: KeyRotation): void {
  for (const key of signing) {
    const from = key.use === 'next' ? `from ${formatMoment(key.signsAt ?? 0)} on` : 'now';
    printDone(shell, `Key ${key.kid} signs ${from}${forWhom(key)}.`);
  }
  for (const key of retired) {
    const what = key.use === 'signs' ? 'signs until then' : 'verifies still';
    printDone(shell, `Key ${key.kid} ${what}${forWhom(key)}.`);
  }
  for (const key of made.filter(each => each.use === 'next')) {
    const place = isBehindNext(key, signing) ? 'for the rotation after this one' : 'as the next';
    printDone(shell, `Key ${key.kid} is published ${place}${forWhom(key)}.`);
  }
  for (const key of dropped) printDone(shell, `Key ${key.kid} is gone; no token of it counts any more.`);
  if (made.some(key => key.audience !== null))
    printHint(shell, 'hand new secrets to their audiences: rollcall keys secret AUDIENCE');
}

function forWhom({ algorithm, audience }: TokenKey): string {
  return audience === null ? ` with ${algorithm}` : ` for ${audience}`;
}

const secretColumns: readonly Column[] = [{ header: 'Key' }, { header: 'Use' }, { header: 'Secret' }];

/** Prints the secrets that an audience verifies tokens with: the one that signs first, then the next. */
export async function showSecrets(shell: Shell, audience: string, flags: AskFlags): Promise<number> {
  const { keys } = await openAccess(shell, flags);
  const secrets = await keys.secrets(audience);
  if (flags.json) {
    printJson(
      shell,
      secrets.map(({ kid, use, secret }) => ({ kid, use, secret })),
    );
  } else {
    const rows = secrets.map(({ kid, use, secret }) => [kid, use, secret]);
    printTable(shell, secretColumns, rows);
  }
  printHint(shell, 'who has a secret can make tokens for that audience: hand it to nobody else');
  return exitCodes.done;
}
