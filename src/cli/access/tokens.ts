/** `rollcall tokens create|list|revoke`: tokens that last, for programs that act for a user. */
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { isThere, writeWholeFile } from '../../base/secret-file.js';
import type { ApiTokens } from '../../control-client/administration.js';
import type { ApiToken, IssuedToken } from '../../control-client/answers.js';
import { exitCodes, usageError } from '../failure.js';
import { formatMoment } from '../format.js';
import { parseWhen } from '../moment.js';
import { printHint, type Shell } from '../shell.js';
import type { Column, Row } from '../table.js';
import { plainText } from '../../base/text.js';
import { parseDuration, parseList } from './arguments.js';
import { openAccess, type AskFlags } from './with-link.js';
import { momentOrNull, printDone, printJson, printSecret, printTable } from './showing.js';

export interface NewTokenFlags extends AskFlags {
  readonly role: readonly string[];
  readonly ttl: string;
  readonly output?: string;
  readonly user?: string;
}

/** Into a file of mode 0600, or alone on standard output. */
export async function createToken(shell: Shell, name: string, flags: NewTokenFlags): Promise<number> {
  const wanted = { name, roles: parseList(flags.role), lifetimeMs: parseDuration('--ttl', flags.ttl) };
  const { output, user } = flags;
  if (output !== undefined) await requireFree(output);
  const { tokens } = await openAccess(shell, flags);
  const { record, token } = await tokens.create({ ...wanted, user });
  if (output !== undefined) {
    await writeToken(output, token).catch(async (error: unknown) => {
      await takeBack(shell, tokens, record);
      throw error;
    });
  }
  printIssued(shell, { record, token }, flags);
  return exitCodes.done;
}

/** Revokes a token that could not be shown: nobody has it. */
async function takeBack(shell: Shell, tokens: ApiTokens, { id }: ApiToken): Promise<void> {
  await tokens
    .revoke(id)
    .catch(() =>
      printHint(
        shell,
        `the token is there all the same; end it with rollcall tokens revoke ${plainText(id)}`,
      ),
    );
}

function printIssued(shell: Shell, { record, token }: IssuedToken, { json, output }: NewTokenFlags): void {
  if (json) printJson(shell, { ...tokenJson(record), ...(output === undefined ? { token } : { output }) });
  else if (output === undefined) printSecret(shell, token);
  else
    printDone(shell, `Token ${record.name} written to ${output}; it ends ${formatMoment(record.expiresAt)}.`);
  if (output !== undefined) {
    printHint(shell, `use it with --token-file ${plainText(output)}, or ROLLCALL_TOKEN_FILE`);
    return;
  }
  printHint(
    shell,
    `the token is shown this once and ends ${formatMoment(record.expiresAt)}; keep it in a file of mode 0600 ` +
      'and name that in ROLLCALL_TOKEN_FILE, or give it as ROLLCALL_TOKEN',
  );
}

/** Found before the token is made. */
async function requireFree(path: string): Promise<void> {
  if (await isThere(path)) throw fileThere(path);
}

function fileThere(path: string): RollcallError {
  return new RollcallError('FILE_EXISTS', `${path} exists already`, {
    hint: 'give another name, or remove it',
  });
}

async function writeToken(path: string, token: string): Promise<void> {
  try {
    await writeWholeFile(path, `${token}\n`);
  } catch (error) {
    if (isRollcallError(error, 'FILE_EXISTS')) throw fileThere(path);
    throw error;
  }
}

const columns: readonly Column[] = [
  { header: 'Token', clipTo: 12 },
  { header: 'Holder', clipTo: 8, dropRank: 2 },
  { header: 'Made by', clipTo: 8, dropRank: 5 },
  { header: 'Roles', clipTo: 8, dropRank: 3 },
  { header: 'Created', minWidth: 20, dropRank: 1 },
  { header: 'Ends', minWidth: 20, dropRank: 4 },
  { header: 'ID' },
];

export async function listTokens(shell: Shell, flags: AskFlags): Promise<number> {
  const tokens = await (await openAccess(shell, flags)).tokens.list();
  if (flags.json) printJson(shell, tokens.map(tokenJson));
  else printTable(shell, columns, tokens.map(tokenRow));
  if (tokens.length === 0 && !flags.json)
    printHint(shell, 'no token is there; make one with rollcall tokens create NAME --role ROLE --ttl 30d');
  return exitCodes.done;
}

function tokenRow({
  id,
  name,
  holderName,
  madeByName = holderName,
  roles,
  createdAt,
  expiresAt,
}: ApiToken): Row {
  return [
    name,
    holderName,
    madeByName,
    roles.join(', '),
    formatMoment(createdAt),
    formatMoment(expiresAt),
    id,
  ];
}

function tokenJson({ id, name, holder, holderName, roles, createdAt, expiresAt, ...made }: ApiToken): object {
  const { madeBy = holder, madeByName = holderName } = made;
  const moments = { createdAt: momentOrNull(createdAt), expiresAt: momentOrNull(expiresAt) };
  return { id, name, holder, holderName, madeBy, madeByName, roles, ...moments };
}

export interface RevokeFlags extends AskFlags {
  readonly before?: string;
  readonly since?: string;
}

/** One, or all that began before a moment, since one, or between two. */
export async function revokeTokens(
  shell: Shell,
  reference: string | undefined,
  flags: RevokeFlags,
): Promise<number> {
  const before = parseWhen('--before', flags.before, shell.now());
  const since = parseWhen('--since', flags.since, shell.now());
  const isTimed = before !== undefined || since !== undefined;
  if (reference !== undefined && !isTimed) return revokeToken(shell, reference, flags);
  if (reference === undefined && isTimed) {
    const began = { ...(since !== undefined && { since }), ...(before !== undefined && { before }) };
    return endTokens(shell, began, flags);
  }
  throw usageError(
    'expected a token, or a time with --before WHEN, --since WHEN or both',
    'rollcall tokens list shows names and IDs',
  );
}

type Began = Parameters<ApiTokens['end']>[0];

async function endTokens(shell: Shell, began: Began, flags: AskFlags): Promise<number> {
  const { tokens } = await openAccess(shell, flags);
  const ended = await tokens.end(began);
  const [since, before] = [ended.since, ended.before].map(at => new Date(at).toISOString());
  if (flags.json) {
    const { ownEnded = null } = ended;
    printJson(shell, { endedSince: ended.since === 0 ? null : since, endedBefore: before, ownEnded });
    return exitCodes.done;
  }
  const [when, kept] =
    ended.since === 0
      ? [`before ${before}`, 'later ones are kept']
      : [`from ${since} to ${before}`, 'earlier and later ones are kept'];
  printDone(
    shell,
    `Every token and login that began ${when} has ended, of users, services and nodes; ${kept}. ` +
      'Connections of nodes stay: revoke a node to cut it off.',
  );
  if (ended.since > 0)
    printHint(
      shell,
      'a login that began earlier is kept even if it was stolen; --before now ends everything',
    );
  if (ended.ownEnded) printHint(shell, 'your own login has ended too: rollcall login');
  return exitCodes.done;
}

async function revokeToken(shell: Shell, reference: string, flags: AskFlags): Promise<number> {
  const { tokens } = await openAccess(shell, flags);
  const { id, name } = await findToken(tokens, reference);
  await tokens.revoke(id);
  if (flags.json) printJson(shell, { revoked: id });
  else printDone(shell, `Token ${name === undefined || name === id ? id : `${name} (${id})`} revoked.`);
  return exitCodes.done;
}

/** An ID goes as it is; a name, which several tokens may have, must be that of one. */
async function findToken(
  tokens: ApiTokens,
  reference: string,
): Promise<{ readonly id: string; readonly name?: string }> {
  if (/^[0-9a-f]{32}$/.test(reference)) return { id: reference };
  const found = (await tokens.list()).filter(({ name }) => name.toLowerCase() === reference.toLowerCase());
  const [token] = found;
  if (token && found.length === 1) return token;
  if (token) {
    const ids = found.map(({ id }) => id).join(', ');
    throw usageError(`${found.length} tokens are named ${token.name}`, `give one ID: ${ids}`);
  }
  throw new RollcallError('NOT_FOUND', `there is no API token with the name or ID "${reference}"`, {
    hint: 'rollcall tokens list shows names and IDs',
  });
}
