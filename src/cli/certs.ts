/**
 * Writes a certificate authority and a server certificate for the link, for development: `rollcall certs`.
 * Their content is made in src/link/authority/development.ts; here are the arguments, the files and the output.
 */
import { X509Certificate } from 'node:crypto';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '../base/clock.js';
import { RollcallError, systemErrorCode, toRollcallError } from '../base/errors.js';
import { fromPem } from '../base/pem.js';
import { systemRandom } from '../base/random.js';
import { isThere, makeFolder, readSmallFile, unlessMissing, writeWholeFile } from '../base/secret-file.js';
import { as } from '../base/settings.js';
import { plainText } from '../base/text.js';
import { openGivenFiles } from '../link/authority/authority-files.js';
import {
  makeDevelopmentCertificates,
  makeServerCertificate,
  parseHost,
  type DevelopmentCertificates,
  type PemPair,
} from '../link/authority/development.js';
import { exitCodeOf, exitCodes, usageError } from './failure.js';
import { toJson } from './format.js';

const usage = `usage: rollcall certs [--host NAME-OR-IP]... [--days N] [--out DIR] [--force | --renew-server]

Writes ca.crt, ca.key, server.pem and server.key for development: a certificate authority that nodes trust
and a certificate for the link, valid for localhost, 127.0.0.1, ::1 and every --host.

  --host NAME-OR-IP  one more name or address of the link; may be given again
  --days N           how long the server certificate is valid (default 365)
  --out DIR          where to write (default certificates)
  --force            replace files that are there; nodes then need the new ca.crt
  --renew-server     replace server.pem and server.key alone, signed by the ca.key that is there: nodes notice
                     nothing, and the names of the old certificate stay
  --json             print JSON, for machines: the files and what the server certificate is valid for
  --help             show this
`;

interface Wishes {
  readonly hosts: readonly string[];
  readonly days: number;
  readonly folder: string;
  readonly force: boolean;
  readonly renewServer: boolean;
  readonly json: boolean;
}

const days = as.integer(1, 36_500);

/** Undefined when help was asked for; throws an Error for people when the arguments make no sense. */
function parseWishes(argv: readonly string[]): Wishes | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      host: { type: 'string', multiple: true, default: [] },
      days: { type: 'string', default: '365' },
      out: { type: 'string', default: 'certificates' },
      force: { type: 'boolean', default: false },
      'renew-server': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  values.host.forEach(parseHost);
  const { host: hosts, out: folder, force, 'renew-server': renewServer, json } = values;
  if (force && renewServer) {
    throw new RollcallError('REQUEST_INVALID', 'give --force or --renew-server, not both', {
      hint: '--force replaces the CA as well, and nodes then need the new ca.crt',
    });
  }
  return { hosts, days: parseDays(values.days), folder, force, renewServer, json };
}

function parseDays(text: string): number {
  try {
    return days(text);
  } catch (error) {
    throw new RollcallError('REQUEST_INVALID', `--days ${error instanceof Error ? error.message : ''}`);
  }
}

interface Target {
  readonly path: string;
  readonly content: string;
  readonly mode: number;
}

function targetsOf(folder: string, { ca, server }: DevelopmentCertificates): Target[] {
  return [
    { path: join(folder, 'ca.key'), content: ca.key, mode: 0o600 },
    { path: join(folder, 'ca.crt'), content: ca.certificate, mode: 0o644 },
    ...serverTargets(folder, server),
  ];
}

function serverTargets(folder: string, { certificate, key }: PemPair): Target[] {
  return [
    { path: join(folder, 'server.key'), content: key, mode: 0o600 },
    { path: join(folder, 'server.pem'), content: certificate, mode: 0o644 },
  ];
}

/** All or none: half a set of files would not fit the other half. */
async function refuseExisting(targets: readonly Target[]): Promise<void> {
  const found: string[] = [];
  for (const { path } of targets) {
    if (await isThere(path)) found.push(path);
  }
  if (found.length === 0) return;
  throw new RollcallError('FILE_EXISTS', `not written, because there is already: ${found.join(', ')}`, {
    hint: '--renew-server replaces the server certificate and its key alone. --force replaces all four; nodes that trust the old ca.crt then need the new one. --out DIR writes elsewhere',
  });
}

async function writeTargets(targets: readonly Target[]): Promise<void> {
  for (const { path, content, mode } of targets) {
    await writeWholeFile(path, content, { mode, overwrite: true });
  }
}

function report({ hosts, days, folder }: Wishes): string {
  const at = (file: string) => join(folder, file);
  return `Written for development. In production, give the link a certificate from your own authority.

  ${at('ca.crt')}      what nodes recognise the link by: copy it to every node
  ${at('ca.key')}      signs server certificates: keep it to yourself, nothing needs it at run time
  ${at('server.pem')}  the link's certificate, valid ${days} days for ${['localhost', '127.0.0.1', '::1', ...hosts].join(', ')}
  ${at('server.key')}  its key

Next, make keys for two nodes and start the link:

  rollcall keygen 2
  rollcall link --ssl-ca-certfile ${at('ca.crt')} --ssl-certfile ${at('server.pem')} --ssl-keyfile ${at('server.key')}
`;
}

/** Each file that was written by its name, and what is in the server certificate. */
function reportJson(targets: readonly Target[]): string {
  const { validTo, subjectAltName, fingerprint256 } = new X509Certificate(targets.at(-1)?.content ?? '');
  const files = Object.fromEntries(targets.map(({ path }) => [basename(path), path]));
  const server = { expiresAt: new Date(validTo).toISOString(), names: subjectAltName, fingerprint256 };
  return `${toJson({ files, server }, 2)}\n`;
}

export interface Output {
  readonly print: (text: string) => void;
  readonly complain: (text: string) => void;
}

/** Does it all; resolves to the exit code: 0 written, 1 refused, 2 usage. */
export async function generateCertificates(argv: readonly string[], output: Output): Promise<number> {
  let wishes: Wishes | undefined;
  try {
    wishes = parseWishes(argv);
  } catch (error) {
    return complainAbout(error, output);
  }
  if (!wishes) {
    output.print(usage);
    return exitCodes.done;
  }
  try {
    output.print(await (wishes.renewServer ? renewServer(wishes) : writeAll(wishes)));
  } catch (error) {
    return complainAbout(error, output);
  }
  return exitCodes.done;
}

/** Gives what to print. */
async function writeAll(wishes: Wishes): Promise<string> {
  const { hosts, days, folder, force } = wishes;
  const made = makeDevelopmentCertificates({ hosts, days, now: Date.now(), random: systemRandom });
  const targets = targetsOf(folder, made);
  if (!force) await refuseExisting(targets);
  await makeFolder(folder, { mode: 0o777, what: 'folder of certificates', setting: '--out' });
  await writeTargets(targets);
  return wishes.json ? reportJson(targets) : report(wishes);
}

/** Gives what to print. Nodes that trust the CA trust the new certificate. */
async function renewServer({ hosts, days, folder, json }: Wishes): Promise<string> {
  const ca = await openGivenFiles(join(folder, 'ca.crt'), join(folder, 'ca.key'), systemClock);
  const before = await unlessMissing(readSmallFile(join(folder, 'server.pem'), 'server certificate'));
  const options = { days, now: systemClock.now(), random: systemRandom };
  const names = before === undefined ? hosts : [...namesIn(before.toString('latin1')), ...hosts];
  const targets = serverTargets(folder, makeServerCertificate({ ...options, hosts: names }, ca));
  await writeTargets(targets);
  if (json) return reportJson(targets);
  const { validTo, subjectAltName } = new X509Certificate(targets.at(-1)?.content ?? '');
  return `The link has a new certificate and a new key, by the same certificate authority: nodes need nothing new.

  ${join(folder, 'server.pem')}  valid until ${validTo} for ${String(subjectAltName)}
  ${join(folder, 'server.key')}  its key

A running link takes them within ten seconds, and at once by SIGHUP.
`;
}

/** The names and addresses of a certificate that was made here. */
function namesIn(pem: string): string[] {
  const [der] = fromPem(pem, 'server certificate');
  const names = new X509Certificate(der).subjectAltName?.split(', ') ?? [];
  return names.map(name => name.replace(/^(?:DNS|IP Address):/, ''));
}

/** Tells it, and gives the exit code. */
export function complainAbout(thrown: unknown, { complain }: Output): number {
  const error = asUsage(thrown) ?? toRollcallError(thrown);
  complain(`error: ${error.message}\n${error.hint === undefined ? '' : `hint: ${error.hint}\n`}`);
  return exitCodeOf(error);
}

const usageMessages: Readonly<Record<string, string>> = {
  ERR_PARSE_ARGS_UNKNOWN_OPTION: 'unknown option',
  ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL: 'too many arguments:',
  ERR_PARSE_ARGS_INVALID_OPTION_VALUE: 'invalid use of option',
};

/** The refusal of Node.js's parseArgs as a usage error like that of all other commands. */
function asUsage(thrown: unknown): RollcallError | undefined {
  const message = usageMessages[systemErrorCode(thrown) ?? ''];
  if (message === undefined) return undefined;
  const [, quoted = ''] = /'((?:-[a-z], )?[^']*)'/.exec((thrown as Error).message) ?? [];
  return usageError(
    `${message} '${plainText(quoted.replace(/ <value>$/, ''))}'`,
    '--help shows what there is',
  );
}
