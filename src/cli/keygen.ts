/**
 * Writes key pairs for nodes, for development: `rollcall keygen 5`. The formats are written in src/identity;
 * here are the arguments, the files and the words.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Output } from './certs.js';
import { RollcallError, toRollcallError } from '../base/errors.js';
import { isThere, makeSecretFolder, writeWholeFile } from '../base/secret-file.js';
import { as } from '../base/settings.js';
import { formatOpensshPrivate, formatOpensshPublic } from '../identity/openssh.js';
import { generatePrivateKey, toPkcs8Pem, toSpkiPem, type PrivateKey } from '../identity/private-key.js';
import type { Curve } from '../identity/public-key.js';

const usage = `usage: rollcall keygen [N] [--curve p256|p384] [--format openssh|pem] [--out DIR]

Writes N key pairs for nodes, two by default: client_credentials_1 (private, for its owner alone) and
client_credentials_1.pub, client_credentials_2 and so on. Nothing is ever overwritten.

  --curve p256|p384     NIST P-256 (default) or P-384
  --format openssh|pem  as ssh-keygen writes them (default), or PKCS#8 and SubjectPublicKeyInfo in PEM
  --out DIR             where to write (default keys)
  --help                show this
`;

const curveOfFlag: Readonly<Record<'p256' | 'p384', Curve>> = { p256: 'P-256', p384: 'P-384' };
type Format = 'openssh' | 'pem';

interface Wishes {
  readonly count: number;
  readonly curve: Curve;
  readonly format: Format;
  readonly folder: string;
}

/** Undefined when help was asked for; throws an Error for people when the arguments make no sense. */
function parseWishes(argv: readonly string[]): Wishes | undefined {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      curve: { type: 'string', default: 'p256' },
      format: { type: 'string', default: 'openssh' },
      out: { type: 'string', default: 'keys' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  if (positionals.length > 1) throw new Error('give one number: how many pairs');
  return {
    count: parseWith('N', as.integer(1, 10_000), positionals[0] ?? '2'),
    curve: curveOfFlag[parseWith('--curve', as.oneOf<'p256' | 'p384'>(['p256', 'p384']), values.curve)],
    format: parseWith('--format', as.oneOf<Format>(['openssh', 'pem']), values.format),
    folder: parseWith('--out', raw => as.text(raw), values.out),
  };
}

function parseWith<T>(name: string, parse: (raw: unknown) => T, text: string): T {
  try {
    return parse(text);
  } catch (error) {
    throw new Error(`${name} ${(error as Error).message}`, { cause: error });
  }
}

/** Private file and public file of the pair with this number. */
function pathsOf(folder: string, number: number): [string, string] {
  const path = join(folder, `client_credentials_${number}`);
  return [path, `${path}.pub`];
}

/** All or nothing: no pair is written when any of them is there. */
async function refuseExisting(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    if (await isThere(path)) {
      throw new RollcallError('FILE_EXISTS', `${path} is there already, and keys are never overwritten`, {
        hint: 'nothing was written; give another folder with --out, or move the old keys away',
      });
    }
  }
}

function formatPair(key: PrivateKey, format: Format, comment: string): [string, string] {
  return format === 'openssh'
    ? [formatOpensshPrivate(key, comment), formatOpensshPublic(key.publicKey, comment)]
    : [toPkcs8Pem(key), toSpkiPem(key.publicKey)];
}

/** Gives the line that says so. */
async function writePair({ curve, format, folder }: Wishes, number: number): Promise<string> {
  const key = generatePrivateKey(curve);
  const [privatePath, publicPath] = pathsOf(folder, number);
  const [privateText, publicText] = formatPair(key, format, `client_credentials_${number}`);
  await writeWholeFile(privatePath, privateText);
  await writeWholeFile(publicPath, publicText, { mode: 0o644 });
  return `${privatePath}  ${publicPath}  ${curve}  ${key.publicKey.fingerprint}\n`;
}

async function writeKeys(wishes: Wishes, { print }: Output): Promise<void> {
  const numbers = Array.from({ length: wishes.count }, (_, index) => index + 1);
  await refuseExisting(numbers.flatMap(number => pathsOf(wishes.folder, number)));
  await makeSecretFolder(wishes.folder, 'folder of keys', '--out');
  for (const number of numbers) print(await writePair(wishes, number));
  print('register the .pub files with the link; each private file goes to its node and nowhere else\n');
}

/** Gives the exit code: 0 done, 1 refused, 2 usage. */
export async function generateKeys(argv: readonly string[], output: Output): Promise<number> {
  let wishes: Wishes | undefined;
  try {
    wishes = parseWishes(argv);
  } catch (error) {
    output.complain(`error: ${(error as Error).message.split('\n', 1)[0] ?? ''}\nhint: see --help\n`);
    return 2;
  }
  if (!wishes) {
    output.print(usage);
    return 0;
  }
  try {
    await writeKeys(wishes, output);
    return 0;
  } catch (error) {
    return reportFailure(error, output);
  }
}

function reportFailure(error: unknown, { complain }: Output): number {
  const { message, hint } = toRollcallError(error);
  complain(`error: ${message}\n`);
  if (hint !== undefined) complain(`hint: ${hint}\n`);
  return 1;
}
