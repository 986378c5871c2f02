/** Reads the arguments of the commands about runs. Pure; mistakes are REQUEST_INVALID, exit code 2. */
import type { ConfigValue } from '../../app-package/app-manifest.js';
import { findRunStatus, runStatusWords } from '../../control-client/run-status.js';
import type { RunStatus } from '../../protocol/generated/rollcall/v1/runs.js';
import { usageError } from '../failure.js';

/** Stands for the id of the newest run. */
export const latest = 'latest';

/** The id of a run, whole: where a cut one would do today, it may be another's tomorrow. */
export function parseRunId(text: string): bigint {
  if (/^[1-9]\d{0,19}$/.test(text) && BigInt(text) < 2n ** 64n) return BigInt(text);
  throw usageError(`"${text}" is no id of a run`, 'rollcall runs list shows them');
}

/** Status words, each may hold several split at commas. */
export function parseRunStatuses(words: readonly string[] = []): RunStatus[] {
  const statuses = words
    .flatMap(word => word.split(','))
    .map(word => {
      const status = findRunStatus(word.trim().toLowerCase());
      if (status === undefined)
        throw usageError(`there is no status "${word}" of runs`, `there are: ${runStatusWords.join(', ')}`);
      return status;
    });
  return [...new Set(statuses)];
}

/** The number of a line; 0 for all. */
export function parseAfter(text: string | undefined): number {
  if (text === undefined) return 0;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw usageError(`--after: expected the number of a line, found "${text}"`);
}

/** `name=value` pairs, each of the type that the app gives the setting. */
export function parseSettings(
  pairs: readonly string[] = [],
  defaults: Readonly<Record<string, ConfigValue>>,
): Record<string, ConfigValue> {
  const settings = new Map<string, ConfigValue>();
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    if (at < 1) throw usageError(`--set expects NAME=VALUE, found "${pair}"`);
    const name = pair.slice(0, at);
    if (settings.has(name)) throw usageError(`--set ${name} is given twice`);
    const before = Object.hasOwn(defaults, name) ? defaults[name] : undefined;
    if (before === undefined) throw usageError(`the app has no setting "${name}"`, settingsOf(defaults));
    settings.set(name, parseSetting(name, pair.slice(at + 1), before));
  }
  return Object.fromEntries(settings);
}

function settingsOf(defaults: Readonly<Record<string, ConfigValue>>): string {
  const known = Object.entries(defaults).map(([name, value]) => `${name}=${String(value)}`);
  return known.length === 0 ? 'it has none' : `it has: ${known.join(', ')}`;
}

function parseSetting(name: string, text: string, defaults: ConfigValue): ConfigValue {
  if (typeof defaults === 'string') return text;
  if (typeof defaults === 'boolean') {
    if (text === 'true' || text === 'false') return text === 'true';
    throw usageError(`--set ${name} expects true or false, found "${text}"`);
  }
  // As JSON has numbers: what one reads as a number elsewhere (0x10, a blank) may be a slip here.
  const value = /^-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isFinite(value)) return value;
  throw usageError(`--set ${name} expects a number, found "${text}"`, `the default is ${String(defaults)}`);
}
