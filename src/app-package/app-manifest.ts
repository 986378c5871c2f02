/**
 * `app.json`, which makes a folder an app: its name and version, the file each half begins with, and the settings a run
 * may have with their defaults. The type of a setting is that of its default.
 *
 *     { "name": "digits", "version": "1.0.0", "server": "server.js", "node": "node.js", "config": { "rounds": 3 } }
 */
import { RollcallError } from '../base/errors.js';
import { visibleText } from '../base/text.js';

export type ConfigValue = string | number | boolean;

export interface AppManifest {
  readonly name: string;
  /** Semantic Versioning 2.0.0, without build metadata: what differs must differ in order. */
  readonly version: string;
  /** Paths in the folder, with `/`. */
  readonly server: string;
  readonly node: string;
  readonly config: Readonly<Record<string, ConfigValue>>;
}

export const manifestFile = 'app.json';

const members: ReadonlySet<string> = new Set(['name', 'version', 'server', 'node', 'config']);
const namePattern = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const number = '(?:0|[1-9]\\d{0,8})';
const versionPattern = new RegExp(
  `^${number}\\.${number}\\.${number}(?:-[0-9A-Za-z-]{1,32}(?:\\.[0-9A-Za-z-]{1,32}){0,7})?$`,
);
const settingPattern = /^[a-z][a-z0-9-]{0,62}$/;
const maxSettings = 100;
const maxTextLength = 4_096;

/** Throws REQUEST_INVALID that says what is wrong and how it should be. */
export function parseAppManifest(text: string): AppManifest {
  const found = parseObject(text);
  const other = Object.keys(found).find(name => !members.has(name));
  if (other !== undefined)
    throw unfit(`"${clip(other)}" is nothing it knows`, `it knows ${[...members].join(', ')}`);
  return {
    name: wantText(found, 'name', namePattern, 'lower-case letters, digits and dashes, at most 63'),
    version: wantText(found, 'version', versionPattern, 'three numbers, such as 1.0.0 or 1.1.0-beta.2'),
    server: readEntry(found, 'server'),
    node: readEntry(found, 'node'),
    config: readConfig(found['config'] ?? {}),
  };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw unfit('it is no JSON', 'an example is in the documentation of apps');
  }
  if (isObject(value)) return value;
  throw unfit('it is no object', 'it begins with { and ends with }');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wantText(
  found: Readonly<Record<string, unknown>>,
  member: string,
  pattern: RegExp,
  form: string,
): string {
  const value = found[member];
  if (typeof value === 'string' && pattern.test(value)) return value;
  throw unfit(
    value === undefined ? `"${member}" is missing` : `"${member}" has the wrong form`,
    `expected ${form}`,
  );
}

export type AppLanguage = 'javascript' | 'python';

const endings: Readonly<Record<string, AppLanguage>> = { js: 'javascript', mjs: 'javascript', py: 'python' };

/** The language of a half, by the ending of its entry; undefined for one that no app host runs. */
export function findLanguage(entry: string): AppLanguage | undefined {
  const ending = /[^/]\.([a-z]+)$/.exec(entry)?.[1] ?? '';
  return Object.hasOwn(endings, ending) ? endings[ending] : undefined;
}

/** The same for an entry of a manifest that was read, which has one. */
export function languageOf(entry: string): AppLanguage {
  const language = findLanguage(entry);
  if (language === undefined) throw new RollcallError('INTERNAL', `${entry} is in no language there is`);
  return language;
}

/** Whether the file exists is checked when the folder is packed. */
function readEntry(found: Readonly<Record<string, unknown>>, member: string): string {
  const value = found[member];
  if (typeof value !== 'string' || !isPathInside(value)) {
    throw unfit(
      value === undefined ? `"${member}" is missing` : `"${member}" is no file of the folder`,
      `expected the path of a file in the app's folder, such as "${member}.js"`,
    );
  }
  if (findLanguage(value)) return value;
  const forms = Object.keys(endings).map(ending => `.${ending}`);
  throw unfit(`"${member}" is in no language that a half may have`, `its name ends in ${forms.join(' or ')}`);
}

/** A path that stays in the folder it is read from, spelled in one way only. */
export function isPathInside(path: string): boolean {
  const parts = path.split('/');
  const isPlain = (part: string): boolean => part !== '' && part !== '.' && part !== '..';
  return Buffer.byteLength(path) <= 255 && !/[\\\p{Cc}\p{Cf}\p{Cs}]/u.test(path) && parts.every(isPlain);
}

function readConfig(value: unknown): Readonly<Record<string, ConfigValue>> {
  if (!isObject(value)) throw unfit('"config" is no object', 'it holds settings and their defaults');
  const settings = Object.entries(value);
  if (settings.length > maxSettings)
    throw unfit('"config" holds too much', `at most ${maxSettings} settings`);
  for (const [name, defaultValue] of settings) {
    if (!settingPattern.test(name))
      throw unfit(`the setting "${clip(name)}" has the wrong form`, 'lower-case letters, digits and dashes');
    if (!isConfigValue(defaultValue))
      throw unfit(`unsupported type of the setting "${name}"`, 'a text, a finite number, true or false');
  }
  return value as Readonly<Record<string, ConfigValue>>;
}

function isConfigValue(value: unknown): value is ConfigValue {
  if (typeof value === 'string') return value.length <= maxTextLength;
  return typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value));
}

/** It may come from others, and is shown on terminals. */
function clip(text: string): string {
  return visibleText(text, 40) + (text.length > 40 ? '…' : '');
}

function unfit(what: string, hint: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `${manifestFile} is not usable: ${what}`, { hint });
}
