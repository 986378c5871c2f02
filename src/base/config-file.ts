/** Reads a YAML configuration file into plain values. The parser is loaded only when a file is given. */
import { RollcallError } from './errors.js';
import { readSmallFile } from './secret-file.js';

export async function readConfigFile(path: string): Promise<unknown> {
  const text = (await readSmallFile(path, 'configuration file')).toString('utf8');
  const { parseDocument } = await import('yaml');
  const document = parseDocument(text, { uniqueKeys: true, merge: false });
  const [error] = document.errors;
  if (error) {
    throw new RollcallError(
      'CONFIG_INVALID',
      `${path}: ${(error.message.split('\n', 1)[0] ?? '').replace(/:$/, '')}`,
      {
        hint: 'the file holds "key: value" lines in YAML',
      },
    );
  }
  return document.toJS({ maxAliasCount: 10 }) as unknown;
}
