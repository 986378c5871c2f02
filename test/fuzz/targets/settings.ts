/** Settings people write: a node's own pairs, configuration files, variables and flags. */
import { existsSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { readConfigFile } from '../../../src/base/config-file.js';
import { isRollcallError } from '../../../src/base/errors.js';
import { readSettings, type Settings } from '../../../src/base/settings.js';
import { linkSettings } from '../../../src/link/settings.js';
import { environmentPrefix, nodeSettings } from '../../../src/node/config.js';
import {
  maxNodeConfigBytes,
  parseNodeConfig,
  type NodeConfig,
  type NodeConfigValue,
} from '../../../src/node/node-config.js';
import { pick, steps } from '../bytes.js';
import { checkWords, demand, tried, type Target } from '../fuzzing.js';
import { changedTexts } from '../texts.js';

// Pairs of a node.

const pairs = [
  'dataset-path="datasets/part_1" partition-id=1 flag=true',
  "a.b.c='literal' x=0x1F y=-9223372036854775808 z=1_000.5e-3 # comment\nw=false",
  'text="tab \\t quote \\" snowman \\u2603 \\U0001F600" empty="" float=1e308',
];
const pairWords = [
  ...['=', '"', "'", '#', '\n', '\r\n', ' ', '.', '-', '_', '\\', '\\u0000', '\\ud800', '\\UFFFFFFFF', '"""'],
  ...['true', 'TRUE', 'nan', 'inf', '0x', '0b1', '0o7', '1e999', '-0', '-0.0', '+1', '9223372036854775808'],
  ...['9007199254740993', '__proto__', 'constructor', '[1]', '{a=1}', '1979-05-27', '\u202e', '\u007f', '\t'],
];

/** The value as TOML writes it. */
function tomlOf(value: NodeConfigValue): string {
  if (typeof value === 'number' && !Number.isInteger(value)) return value.toExponential();
  if (Object.is(value, -0)) return '-0.0';
  if (typeof value !== 'string')
    return typeof value === 'number' && Math.abs(value) > 1e15 ? wide(value) : value.toString();
  const escaped = value.replaceAll(/["\\\p{Cc}]/gu, character => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  return `"${escaped}"`;
}

/** Beyond 2^53 it was a float. */
function wide(value: number): string {
  return Number.isSafeInteger(value) ? `${value}` : value.toExponential();
}

const tomlText = (config: NodeConfig) =>
  Object.entries(config)
    .map(([key, value]) => `${key}=${tomlOf(value)}`)
    .join('\n');

function checkConfig(config: NodeConfig): void {
  demand(
    Object.getPrototypeOf(config) === null && Object.isFrozen(config),
    'keys mean nothing but themselves',
  );
  for (const [key, value] of Object.entries(config)) {
    demand(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(key), `a bare key, not ${key}`);
    demand(typeof value !== 'bigint' || BigInt.asIntN(64, value) === value, 'an integer of 64 bits');
    demand(typeof value !== 'number' || Number.isFinite(value), 'a finite number');
  }
}

const nodePairs: Target = {
  name: 'parseNodeConfig',
  inputs: changedTexts(pairs, pairWords),
  reaches: ['read', 'CONFIG_INVALID'],
  check(input) {
    const text = input.toString();
    const result = tried(() => parseNodeConfig(text), 'CONFIG_INVALID');
    if ('refusal' in result) {
      demand(
        result.refusal.message.split('\n').every(line => line.length < 250),
        'lines that fit a screen',
      );
      return 'CONFIG_INVALID';
    }
    checkConfig(result.value);
    demand(Buffer.byteLength(text) <= maxNodeConfigBytes, 'no more than the limit');
    const written = tomlText(result.value);
    if (Buffer.byteLength(written) > maxNodeConfigBytes) return 'read';
    const again = parseNodeConfig(written);
    const same = (key: string) => Object.is(again[key], result.value[key]);
    demand(Object.keys(again).join() === Object.keys(result.value).join(), 'the same keys are read again');
    demand(Object.keys(again).every(same), 'what is written is read again');
    return 'read';
  },
};

// Configuration files, by way of a real one.

// In memory where there is such a place: a hundred thousand files cost a disk minutes.
const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rollcall-fuzz-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, 'config.yaml');
const file = openSync(path, 'w');

const schemas = [
  { schema: linkSettings, environmentPrefix: 'ROLLCALL_LINK_' },
  { schema: nodeSettings, environmentPrefix },
] as const;

const files = [
  [
    'node-address: 0.0.0.0:9092',
    'control-address: "[::1]:9093"',
    'trust-domain: fleet.example.org',
    'certificate-lifetime: 15m',
    'link-addresses: [a:1, b:2]',
    'bindings: tls-exporter,tls-server-end-point',
    'max-connections: 100',
    'log-level: debug',
    'check-config: true',
    'enable-supernode-auth: true',
  ].join('\n'),
  [
    'link: link.example.org:9092',
    'node-config:',
    '  partition-id: 1',
    '  dataset-path: datasets/part_1',
    'tenant: default',
    'insecure: false',
  ].join('\n'),
  'node-config: a=1 b="two"\nlog-level: &level info\n',
];
const yamlWords = [
  ...[
    '&a',
    '*a',
    '*level',
    '!!binary',
    '!!set',
    '!<tag:x>',
    '<<',
    '? ',
    '- ',
    '[',
    ']',
    '{',
    '}',
    '|',
    '>-',
    '---',
  ],
  ...[
    '...',
    '%YAML 1.2',
    '#',
    '"',
    "'",
    '\t',
    '\n  ',
    '\u2028',
    '"\\ud800"',
    '"\\e[2J"',
    '\u009b',
    '~',
    'null',
  ],
  ...[
    '__proto__',
    'constructor',
    'toString',
    'config',
    '.inf',
    '0x1',
    '1e400',
    '99999d',
    '1d',
    '-1',
    '65536',
    '[]',
  ],
  ...['!!timestamp 2031-01-01', '2031-01-01', 'yes', '"": 1', '? [a]\n: b', '<<: *level'],
];

async function readFileSettings(input: Buffer): Promise<unknown> {
  ftruncateSync(file);
  writeSync(file, input, 0, input.length, 0);
  try {
    return await readConfigFile(path);
  } catch (error) {
    if (!isRollcallError(error, 'CONFIG_INVALID')) throw error;
    checkWords(error.message);
    return error;
  }
}

/** Every value is one the schema could have given, and nothing unknown was passed over. */
function checkValues(
  schema: Settings,
  values: Readonly<Record<string, unknown>>,
  given: readonly string[],
): void {
  demand(Object.keys(values).join() === Object.keys(schema).join(), 'every setting, and nothing else');
  demand(
    given.every(key => Object.hasOwn(schema, key)),
    `unknown keys are refused, of ${given.join()}`,
  );
  for (const [name, value] of Object.entries(values)) checkValue(name, value);
}

function shown(value: unknown): string {
  return inspect(value, { depth: Infinity, breakLength: Infinity, maxStringLength: Infinity });
}

function checkValue(name: string, value: unknown): void {
  if (typeof value === 'number') demand(Number.isSafeInteger(value) && value >= 1, `${name} within bounds`);
  demand(!shown(value).includes('[object'), `${name} is text, nothing made into text`);
  if (typeof value === 'string') demand(value !== '', `${name} is not empty`);
  if (typeof value !== 'object' || value === null) return;
  if ('port' in value)
    demand(Number.isInteger(value.port) && Number(value.port) <= 65_535, `${name} has a port`);
  if ('pairs' in value && Object.keys(value.pairs as object).length > 0)
    checkConfig(value.pairs as NodeConfig);
  if (Array.isArray(value))
    demand(
      value.flatMap(textsOf).every(each => typeof each === 'string' && each !== ''),
      `${name} is text`,
    );
}

/** An entry of a list is a text, or a pair or record of texts. */
function textsOf(entry: unknown): unknown[] {
  return typeof entry === 'object' && entry !== null ? Object.values(entry) : [entry];
}

const configFiles: Target = {
  name: 'readConfigFile and readSettings',
  inputs: changedTexts(files, yamlWords),
  reaches: ['no YAML', 'read by the link', 'read by the node', 'CONFIG_INVALID'],
  async check(input) {
    const held = await readFileSettings(input);
    if (isRollcallError(held)) return 'no YAML';
    const outcomes = schemas.map(({ schema, environmentPrefix: prefix }) => {
      const sources = {
        flags: {},
        environment: {},
        environmentPrefix: prefix,
        file: held,
        filePath: 'config.yaml',
      };
      const result = tried(() => readSettings<Settings>(schema, sources), 'CONFIG_INVALID');
      if ('refusal' in result) return 'CONFIG_INVALID';
      checkValues(schema, result.value, Object.keys(held ?? {}));
      return prefix === environmentPrefix ? 'read by the node' : 'read by the link';
    });
    return outcomes.find(outcome => outcome !== 'CONFIG_INVALID') ?? 'CONFIG_INVALID';
  },
};

// Flags and variables, as JSON.

const values = [
  '',
  '0',
  '-1',
  '1',
  'true',
  'x',
  '15m',
  '999999999d',
  '0.5s',
  ':1',
  '[::1]:0',
  'a:65536',
  '@',
  '@a',
  '\0',
];
const oddValues: readonly unknown[] = [
  ...values,
  ...pairs,
  ...pairWords,
  null,
  1,
  1.5,
  true,
  [],
  {},
  [[]],
  [null],
];

const variablesAndFlags = fc.tuple(fc.nat(1), steps, steps).map(([which, flagSteps, variableSteps]) => {
  const { schema, environmentPrefix: prefix } = pick(schemas, which);
  const names = [...Object.keys(schema), 'constructor', '__proto__', 'unknown', 'to-string'];
  const flags = flagSteps.map(({ at, value }) => [pick(names, at), pick(oddValues, value)]);
  const variables = variableSteps.map(({ kind, at, value }) => {
    const name = pick(names, at).toUpperCase().replaceAll('-', '_');
    return [`${kind % 5 === 0 ? 'ROLLCALL' : prefix}${name}`, pick(values, value)];
  });
  return Buffer.from(JSON.stringify({ which, flags, variables }));
});

const variables: Target = {
  name: 'readSettings',
  inputs: variablesAndFlags,
  reaches: ['read', 'CONFIG_INVALID'],
  check(input) {
    const said = JSON.parse(input.toString()) as {
      readonly which: number;
      readonly flags: readonly [string, unknown][];
      readonly variables: readonly [string, string][];
    };
    const { schema, environmentPrefix: prefix } = pick(schemas, said.which);
    const sources = {
      flags: Object.fromEntries(said.flags.filter(([name]) => Object.hasOwn(schema, name))),
      environment: Object.fromEntries(said.variables),
      environmentPrefix: prefix,
    };
    const result = tried(() => readSettings<Settings>(schema, sources), 'CONFIG_INVALID');
    if ('refusal' in result) return 'CONFIG_INVALID';
    // An empty variable is not set, whatever its name.
    const given = Object.entries(sources.environment)
      .filter(([name, text]) => name.startsWith(prefix) && text !== '')
      .map(([name]) => name.slice(prefix.length).toLowerCase().replaceAll('_', '-'));
    checkValues(schema, result.value, given);
    return 'read';
  },
};

export const settingsTargets = [nodePairs, configFiles, variables];
