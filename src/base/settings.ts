/**
 * Settings from three places by one schema: command-line flags, environment variables, a configuration file; the
 * first that says something wins. A setting `data-dir` of the link is `--data-dir`, `ROLLCALL_LINK_DATA_DIR` and the
 * key `data-dir`. Unknown keys are refused, and every problem is reported at once.
 */
import { RollcallError } from './errors.js';
import { isServiceVariable } from './service-variables.js';
import { visibleText } from './text.js';

export interface Setting<T> {
  /** The placeholder of the value in help: `HOST:PORT`. Absent for a flag without a value. */
  readonly value?: string;
  readonly description: string;
  readonly default?: T;
  /** Other flags people know it by, without the dashes. */
  readonly aliases?: readonly string[];
  readonly parse: Parse<T>;
}

/** Gives the value, or throws an Error whose message names the expected form. `raw` is text, or what the file held. */
export interface Parse<T> {
  (raw: unknown): T;
  /** The least and the greatest value, where there are such. */
  readonly bounds?: readonly [min: number, max: number];
}

export type Settings = Record<string, Setting<unknown>>;

/** The values of a schema: a setting without a default may be undefined. */
export type ValuesOf<S extends Settings> = {
  readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never;
};

export interface Sources {
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `ROLLCALL_LINK_`. */
  readonly environmentPrefix: string;
  /** The parsed configuration file; undefined without one. */
  readonly file?: unknown;
  /** The file's path, for messages. */
  readonly filePath?: string | undefined;
}

interface Found {
  readonly raw: unknown;
  readonly where: string;
}

/** Reads every setting; throws one CONFIG_INVALID that lists all problems, one a line. */
export function readSettings<S extends Settings>(schema: S, sources: Sources): ValuesOf<S> {
  const { values, problems } = collectSettings(schema, sources);
  if (problems.length > 0) throw new RollcallError('CONFIG_INVALID', problems.join('\n'));
  return values as ValuesOf<S>;
}

export interface Collected<S extends Settings> {
  /** A setting that could not be read is undefined. */
  readonly values: Partial<ValuesOf<S>>;
  /** A line each. */
  readonly problems: readonly string[];
}

/** Reads every setting. For callers that go on with the good ones to find more that is wrong. */
export function collectSettings<S extends Settings>(schema: S, sources: Sources): Collected<S> {
  const problems: string[] = [];
  const file = fileEntries(sources, problems);
  for (const key of Object.keys(file)) {
    if (Object.hasOwn(schema, key)) continue;
    const where = sources.filePath ?? 'file';
    problems.push(`${where}: unknown key "${visibleText(key)}"${suggestion(key, schema)}`);
  }
  for (const [variable, raw] of Object.entries(sources.environment)) {
    const text = nonEmpty(raw);
    const name = settingOf(variable, sources);
    if (!variable.startsWith(sources.environmentPrefix) || Object.hasOwn(schema, name)) continue;
    if (text === undefined || isServiceVariable(variable, text)) continue;
    problems.push(`unknown environment variable ${visibleText(variable)}${suggestion(name, schema)}`);
  }
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(schema)) {
    const found = findRaw(name, sources, file);
    if (!found) {
      values[name] = setting.default;
      continue;
    }
    try {
      values[name] = setting.parse(found.raw);
    } catch (error) {
      problems.push(`${found.where}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { values: Object.freeze(values) as Partial<ValuesOf<S>>, problems };
}

function fileEntries({ file, filePath }: Sources, problems: string[]): Record<string, unknown> {
  if (file === undefined || file === null) return {};
  if (typeof file === 'object' && !Array.isArray(file)) return file as Record<string, unknown>;
  problems.push(`${filePath ?? 'file'}: expected "key: value" lines`);
  return {};
}

function findRaw(name: string, sources: Sources, file: Record<string, unknown>): Found | undefined {
  if (sources.flags[name] !== undefined) return { raw: sources.flags[name], where: `--${name}` };
  const variable = variableOf(name, sources);
  const text = nonEmpty(sources.environment[variable]);
  if (text !== undefined) return { raw: text, where: variable };
  if (Object.hasOwn(file, name) && file[name] !== undefined && file[name] !== null) {
    return { raw: file[name], where: `${sources.filePath ?? 'file'}: ${name}` };
  }
  return undefined;
}

/** An empty variable counts as unset, since a template without a value leaves it behind. */
export function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

function variableOf(name: string, { environmentPrefix }: Sources): string {
  return environmentPrefix + name.toUpperCase().replaceAll('-', '_');
}

function settingOf(variable: string, { environmentPrefix }: Sources): string {
  return variable.slice(environmentPrefix.length).toLowerCase().replaceAll('_', '-');
}

function suggestion(key: string, schema: Settings): string {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  const near = Object.keys(schema).find(
    name => plain(name) === plain(key) || plain(name).includes(plain(key)),
  );
  return near === undefined ? '' : `; did you mean "${near}"?`;
}

/** Parsers for the usual kinds of value. Each throws an Error that names the expected form. */
export const as = {
  text: (raw: unknown): string => {
    if (typeof raw !== 'string' || raw === '') throw new Error('expected text');
    return raw;
  },
  flag: (raw: unknown): boolean => {
    if (raw === true || raw === 'true' || raw === '1') return true;
    if (raw === false || raw === 'false' || raw === '0') return false;
    throw new Error('expected true or false');
  },
  /** A whole number within the bounds, both included. */
  integer(min: number, max: number): Parse<number> {
    return within(min, max, raw => {
      const value = typeof raw === 'string' && /^-?\d+$/.test(raw) ? Number(raw) : raw;
      if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
      throw new Error(`expected a whole number from ${min} to ${max}`);
    });
  },
  /** `90s`, `15m`, `1h`, `30d`, `250ms`, in milliseconds. */
  duration(minMs: number, maxMs: number): Parse<number> {
    return within(minMs, maxMs, raw => {
      const match = typeof raw === 'string' ? /^(\d{1,9})(ms|s|m|h|d)$/.exec(raw) : null;
      const value = match ? Number(match[1]) * (durationUnits[match[2] ?? ''] ?? Number.NaN) : Number.NaN;
      if (value >= minMs && value <= maxMs) return value;
      const [from, to] = [minMs, maxMs].map(formatDuration);
      throw new Error(`expected a duration such as 90s, 15m or 1h, from ${from} to ${to}`);
    });
  },
  /** `512MiB`, `2GiB`, in bytes. */
  size(min: number, max: number): Parse<number> {
    return within(min, max, raw => {
      const match = typeof raw === 'string' ? /^(\d{1,9})(KiB|MiB|GiB)$/.exec(raw) : null;
      const value = match ? Number(match[1]) * (sizeUnits[match[2] ?? ''] ?? Number.NaN) : Number.NaN;
      if (value >= min && value <= max) return value;
      throw new Error(
        `expected a size such as 512MiB or 2GiB, from ${formatSize(min)} to ${formatSize(max)}`,
      );
    });
  },
  oneOf<T extends string>(choices: readonly T[]): (raw: unknown) => T {
    return raw => {
      const choice = choices.find(each => each === raw);
      if (choice !== undefined) return choice;
      const small = choices.find(each => typeof raw === 'string' && each === raw.toLowerCase());
      const advice = small === undefined ? '' : `; in small letters: ${small}`;
      throw new Error(`expected one of ${choices.join(', ')}${advice}`);
    };
  },
  /** Text split at commas, or a list in the file. */
  list<T>(parse: (raw: unknown) => T): (raw: unknown) => readonly T[] {
    return raw => {
      if (typeof raw !== 'string' && !Array.isArray(raw))
        throw new Error('expected a list, or text with commas');
      return (typeof raw === 'string' ? raw.split(',') : raw).map(each => parse(each));
    };
  },
  /** `host:port`, `[::1]:port`. */
  address: (raw: unknown): Address => {
    const match =
      typeof raw === 'string' ? /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/*]+)):(\d{1,5})$/.exec(raw) : null;
    const port = Number(match?.[3]);
    if (!match || port > 65_535) throw new Error(`${addressForm}${addressAdvice(raw)}`);
    return { host: match[1] ?? match[2] ?? '', port };
  },
  /** An address to listen at: HOST:PORT, or `:port` and `*:port` for all addresses. Port 0 asks for a free one. */
  listenAddress: (raw: unknown): Address => {
    const [, port] = typeof raw === 'string' ? (/^\*?:(\d{1,5})$/.exec(raw) ?? []) : [];
    return port === undefined || Number(port) > 65_535
      ? as.address(raw)
      : { host: allAddresses, port: Number(port) };
  },
};

function within(min: number, max: number, parse: (raw: unknown) => number): Parse<number> {
  return Object.assign(parse, { bounds: [min, max] as const });
}

const addressForm = 'expected HOST:PORT, such as 127.0.0.1:9092 or [::1]:9092';

/** Explains the error in an address of another form that people know. Only host and port are repeated: a URL may hold more. */
function addressAdvice(raw: unknown): string {
  if (typeof raw !== 'string') return '';
  const [, host, port] =
    /^[a-z][a-z0-9+.-]*:\/\/(?:[^/@]*@)?([\w.-]+|\[[\da-f:.]+\])(?::(\d{1,5}))?(?:\/|$)/i.exec(raw) ?? [];
  if (host !== undefined) return `; a URL was given: write ${host}:${port ?? 'PORT'}`;
  if (/^\*?:\d+$/.test(raw)) return '; the host is missing';
  return '';
}

const durationUnits: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** As it can be given: `15m`, `90s`. */
export function formatDuration(ms: number): string {
  const unit = Object.entries(durationUnits).findLast(([, size]) => ms >= size && ms % size === 0);
  return unit ? `${ms / unit[1]}${unit[0]}` : `${ms}ms`;
}

const sizeUnits: Record<string, number> = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** As it can be given: `512MiB`. */
export function formatSize(bytes: number): string {
  const unit = Object.entries(sizeUnits).findLast(([, size]) => bytes >= size && bytes % size === 0);
  return unit ? `${bytes / unit[1]}${unit[0]}` : `${bytes} bytes`;
}

/** As a host: every address of this machine. */
export const allAddresses = '';

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, with brackets around an IPv6 host. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
