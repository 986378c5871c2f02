/**
 * Writes key pairs for nodes, for development: `rollcall keygen 5`. The formats are written in src/identity;
 * here are the arguments, the files and the words.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { complainAbout, type Output } from './certs.js';
import { RollcallError } from '../base/errors.js';
import { isThere, makeSecretFolder, writeWholeFile } from '../base/secret-file.js';
import { as } from '../base/settings.js';
import { formatOpensshPrivate, formatOpensshPublic } from '../identity/openssh.js';
import { generatePrivateKey, toPkcs8Pem, toSpkiPem, type PrivateKey } from '../identity/private-key.js';
import type { Curve } from '../identity/public-key.js';
import { exitCodes, usageError } from './failure.js';
import { toJson } from './format.js';

const usage = `usage: rollcall keygen [N] [--curve p256|p384] [--format openssh|pem] [--out DIR] [--json]

Writes N key pairs for nodes, two by default: client_credentials_1 (private, for its owner alone) and
client_credentials_1.pub, client_credentials_2 and so on. Nothing is ever overwritten.

  --curve p256|p384     NIST P-256 (default) or P-384
  --format openssh|pem  as ssh-keygen writes them (default), or PKCS#8 and SubjectPublicKeyInfo in PEM
  --out DIR             where to write (default keys)
  --json                print JSON, for machines: the files of each pair and its fingerprint
  --help                show this
`;

const curveOfFlag: Readonly<Record<'p256' | 'p384', Curve>> = { p256: 'P-256', p384: 'P-384' };
type Format = 'openssh' | 'pem';

interface Wishes {
  readonly count: number;
  readonly curve: Curve;
  readonly format: Format;
  readonly folder: string;
  readonly json: boolean;
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
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  if (positionals.length > 1) throw usageError('too many arguments', 'give one number: how many pairs');
  return {
    count: parseWith('N', as.integer(1, 10_000), positionals[0] ?? '2'),
    curve: curveOfFlag[parseWith('--curve', as.oneOf<'p256' | 'p384'>(['p256', 'p384']), values.curve)],
    format: parseWith('--format', as.oneOf<Format>(['openssh', 'pem']), values.format),
    folder: parseWith('--out', raw => as.text(raw), values.out),
    json: values.json,
  };
}

function parseWith<T>(name: string, parse: (raw: unknown) => T, text: string): T {
  try {
    return parse(text);
  } catch (error) {
    throw usageError(`${name} ${(error as Error).message}`, '--help shows what there is');
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

interface Pair {
  readonly privateKey: string;
  readonly publicKey: string;
  readonly curve: Curve;
  readonly fingerprint: string;
}

async function writePair({ curve, format, folder }: Wishes, number: number): Promise<Pair> {
  const key = generatePrivateKey(curve);
  const [privatePath, publicPath] = pathsOf(folder, number);
  const [privateText, publicText] = formatPair(key, format, `client_credentials_${number}`);
  await writeWholeFile(privatePath, privateText);
  await writeWholeFile(publicPath, publicText, { mode: 0o644 });
  const { fingerprint } = key.publicKey;
  return { privateKey: privatePath, publicKey: publicPath, curve, fingerprint };
}

async function writeKeys(wishes: Wishes, { print }: Output): Promise<void> {
  const numbers = Array.from({ length: wishes.count }, (_, index) => index + 1);
  await refuseExisting(numbers.flatMap(number => pathsOf(wishes.folder, number)));
  await makeSecretFolder(wishes.folder, 'folder of keys', '--out');
  const pairs: Pair[] = [];
  for (const number of numbers) {
    const pair = await writePair(wishes, number);
    pairs.push(pair);
    if (!wishes.json) print(`${Object.values(pair).join('  ')}\n`);
  }
  if (wishes.json) {
    print(`${toJson(pairs, 2)}\n`);
    return;
  }
  print('register the .pub files with the link; each private file goes to its node and nowhere else\n');
}

/** Gives the exit code: 0 done, 1 refused, 2 usage. */
export async function generateKeys(argv: readonly string[], output: Output): Promise<number> {
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
    await writeKeys(wishes, output);
    return exitCodes.done;
  } catch (error) {
    return complainAbout(error, output);
  }
}
