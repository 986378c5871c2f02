/**
 * Writes a certificate authority and a server certificate for the link, for development: `rollcall certs`.
 * What is in them is made in src/link/authority/development.ts; here are the arguments, the files and the words.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { RollcallError, systemErrorCode, toRollcallError } from '../base/errors.js';
import { systemRandom } from '../base/random.js';
import { isThere, makeFolder, writeWholeFile } from '../base/secret-file.js';
import { as } from '../base/settings.js';
import {
  makeDevelopmentCertificates,
  parseHost,
  type DevelopmentCertificates,
} from '../link/authority/development.js';

const usage = `usage: rollcall certs [--host NAME-OR-IP]... [--days N] [--out DIR] [--force]

Writes ca.crt, ca.key, server.pem and server.key for development: a certificate authority that nodes trust
and a certificate for the link, valid for localhost, 127.0.0.1, ::1 and every --host.

  --host NAME-OR-IP  one more name or address of the link; may be given again
  --days N           how long the server certificate is valid (default 365)
  --out DIR          where to write (default certificates)
  --force            replace files that are there
  --help             show this
`;

interface Wishes {
  readonly hosts: readonly string[];
  readonly days: number;
  readonly folder: string;
  readonly force: boolean;
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
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  values.host.forEach(parseHost);
  return { hosts: values.host, days: parseDays(values.days), folder: values.out, force: values.force };
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
    { path: join(folder, 'server.key'), content: server.key, mode: 0o600 },
    { path: join(folder, 'server.pem'), content: server.certificate, mode: 0o644 },
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
    hint: '--force replaces all four; nodes that trust the old ca.crt then need the new one. --out DIR writes elsewhere',
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
    complainAbout(error, output);
    return 2;
  }
  if (!wishes) {
    output.print(usage);
    return 0;
  }
  try {
    await writeAll(wishes);
  } catch (error) {
    complainAbout(error, output);
    return 1;
  }
  output.print(report(wishes));
  return 0;
}

async function writeAll({ hosts, days, folder, force }: Wishes): Promise<void> {
  const made = makeDevelopmentCertificates({ hosts, days, now: Date.now(), random: systemRandom });
  const targets = targetsOf(folder, made);
  if (!force) await refuseExisting(targets);
  await makeFolder(folder, { mode: 0o777, what: 'folder of certificates', setting: '--out' });
  await writeTargets(targets);
}

function complainAbout(error: unknown, { complain }: Output): void {
  const isUsage = systemErrorCode(error)?.startsWith('ERR_PARSE_ARGS') === true && error instanceof Error;
  const { message, hint } = isUsage
    ? { message: error.message, hint: '--help shows what there is' }
    : toRollcallError(error);
  complain(`error: ${message}\n${hint === undefined ? '' : `hint: ${hint}\n`}`);
}
