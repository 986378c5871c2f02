/** YAML configuration files, read into plain values and written. The package for it is loaded only when one is there. */
import type * as Yaml from 'yaml';
import { RollcallError } from './errors.js';
import { readSmallFile } from './secret-file.js';
import { nonEmpty } from './settings.js';
import { isUtf16, visibleText } from './text.js';

/** Settings nest two or three deep. YAML's parser calls itself for each level, and thousands end the process. */
const deepest = 32;

export interface NamedConfigFile {
  readonly file: unknown;
  readonly filePath: string | undefined;
}

/** Of the file that `--config` or its variable names; undefined where neither does. */
export async function readNamedConfigFile(
  flags: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
  environmentPrefix: string,
): Promise<NamedConfigFile> {
  const named = flags['config'] ?? nonEmpty(environment[`${environmentPrefix}CONFIG`]);
  const filePath = typeof named === 'string' ? named : undefined;
  return { file: filePath === undefined ? undefined : await readConfigFile(filePath), filePath };
}

/** Gives what the file holds; CONFIG_INVALID when that is not YAML, or more than settings need of it. */
export async function readConfigFile(path: string): Promise<unknown> {
  const bytes = await readSmallFile(path, 'configuration file');
  if (isUtf16(bytes)) {
    throw new RollcallError('CONFIG_INVALID', `${visibleText(path)} is UTF-16 text`, {
      hint: 'save it again as UTF-8',
    });
  }
  const text = bytes.toString('utf8');
  try {
    return parseYaml(text, await import('yaml'));
  } catch (error) {
    const [reason = ''] = error instanceof Error ? error.message.split('\n', 1) : [];
    throw new RollcallError('CONFIG_INVALID', `${path}: ${visibleText(reason).replace(/:$/, '')}`, {
      hint: 'the file holds "key: value" lines in YAML',
      cause: error,
    });
  }
}

/** The text of such a file. */
export async function formatConfig(settings: object): Promise<string> {
  const { stringify } = await import('yaml');
  return stringify(settings, { lineWidth: 0 });
}

function parseYaml(text: string, yaml: typeof Yaml): unknown {
  if (isTooDeep(text, yaml)) throw new Error(`expected values that nest at most ${deepest} deep`);
  // Its warnings are about what is refused later, and would go to standard error as they are.
  const document = yaml.parseDocument(text, { uniqueKeys: true, merge: false, logLevel: 'error' });
  const [error] = document.errors;
  if (error) throw error;
  // Throws for an alias of nothing, and when aliases multiply.
  return document.toJS({ maxAliasCount: 10 }) as unknown;
}

function isTooDeep(text: string, { Lexer, Parser }: typeof Yaml): boolean {
  const parser = new Parser();
  for (const token of new Lexer().lex(text)) {
    // It goes on only as far as what it finds is taken.
    Array.from(parser.next(token));
    if (parser.stack.length > deepest) return true;
  }
  return false;
}
