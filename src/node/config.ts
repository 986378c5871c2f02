/** The agent's settings: one schema for flags, environment (`ROLLCALL_NODE_*`) and file. */
import { RollcallError } from '../base/errors.js';
import { logFormatSetting, logLevels, type LogLevel } from '../base/log.js';
import { parseProxy, type ProxySetting } from '../base/proxy.js';
import { as, type Address, type Setting, type Settings, type ValuesOf } from '../base/settings.js';
import { defaultTenant } from '../protocol/limits.js';
import type { Isolation } from '../app-host/hosting/hosting.js';
import { minFreeDiskSetting, objectSpaceSetting } from '../objects/settings.js';
import { isVersion } from './runs/compare-versions.js';
import { nodeConfigFromMapping, parseNodeConfig, type NodeConfig } from './node-config.js';

export const environmentPrefix = 'ROLLCALL_NODE_';

/** Only in the environment: everyone on a machine can read arguments. */
export const passphraseVariable = `${environmentPrefix}AUTH_PRIVATE_KEY_PASSPHRASE`;

const path = (
  value: string,
  description: string,
  aliases: readonly string[] = [],
): Setting<string | undefined> => ({
  value,
  description,
  aliases,
  parse: raw => as.text(raw),
});

export const nodeSettings = {
  config: path('FILE', 'these settings as "key: value" lines of YAML'),
  link: {
    value: 'HOST:PORT',
    description: 'the node port of the link',
    aliases: ['superlink'],
    parse: parseLink,
  } as Setting<Address | undefined>,
  proxy: {
    value: 'URL',
    description:
      'HTTP proxy to reach the link through: http:// or https://HOST:PORT, environment (HTTPS_PROXY and NO_PROXY), or none',
    parse: raw => parseProxy(raw),
  } as Setting<ProxySetting | undefined>,
  'proxy-credentials-file': path('FILE', 'user:password for the proxy; 0600'),
  'proxy-root-certificates': path(
    'FILE',
    'roots of an https:// proxy, PEM (default: those that Node.js brings)',
  ),
  'root-certificates': path(
    'FILE',
    'CA certificates that verify the link, PEM; in a configuration file also the PEM itself',
  ),
  'auth-private-key': path('FILE', "this node's private key: OpenSSH, PKCS#8, SEC1 or JWK; 0600", [
    'auth-supernode-private-key',
  ]),
  'auth-private-key-passphrase-file': path(
    'FILE',
    `its passphrase, when it is encrypted; 0600 (or ${passphraseVariable}, or a prompt)`,
  ),
  'node-config': {
    value: 'PAIRS',
    description: `settings for the apps that run here: 'dataset-path="datasets/part_1" partition-id=1', or @FILE`,
    default: { pairs: Object.freeze({}) },
    parse: parseNodeConfigSource,
  } as Setting<NodeConfigSource>,
  'state-dir': path(
    'DIR',
    'folder of the session key and the certificate; without one every start enrolls anew',
  ),
  tenant: {
    value: 'NAME',
    description: 'the tenant this node is registered in',
    default: defaultTenant,
    parse: parseTenant,
  },
  'trust-app-signer': {
    value: 'FILE[@VERSION],…',
    description:
      'public keys of authors whose signed apps run here, each with the lowest version accepted (default: no app runs)',
    default: [],
    parse: as.list(parseSigner),
  } as Setting<readonly SignerFile[]>,
  app: path(
    'DIR',
    'folder of an app that runs here without a signature, provided that the link hands out exactly these files',
  ),
  'trust-any-app': {
    description: 'for development only: run every app that the link sends',
    default: false,
    parse: as.flag,
  },
  isolation: {
    value: 'KIND',
    description:
      'process: apps run in "rollcall app-host" of another user; subprocess: as this user, for development',
    default: 'process',
    parse: as.oneOf(['process', 'subprocess']),
  } as Setting<Isolation>,
  'app-host-socket': path('PATH', 'where that app host connects, in a folder closed to others'),
  'max-runs': {
    value: 'NUMBER',
    description: 'maximum number of runs whose app runs at once; others wait',
    default: 8,
    parse: as.integer(1, 1_000),
  },
  'handler-timeout': {
    value: 'DURATION',
    description: 'maximum duration of a handler of an app; its process is ended then',
    default: 30 * 60_000,
    parse: as.duration(1_000, 7 * 24 * 3_600_000),
  },
  'app-memory': {
    value: 'SIZE',
    description: 'maximum memory of each running app, such as 512MiB; it is ended above that',
    default: 1024 ** 3,
    parse: as.size(64 * 1024 ** 2, 2 ** 40),
  },
  'object-space': objectSpaceSetting,
  'min-free-disk': minFreeDiskSetting('state folder'),
  access: {
    value: 'MAPPING',
    description:
      'in a configuration file alone: tokens for other programs of this machine; the agent needs none',
    parse: parseFileOnly,
  } as Setting<object | undefined>,
  'log-level': {
    value: 'LEVEL',
    description: logLevels.join(', '),
    default: 'info',
    parse: as.oneOf(logLevels),
  } as Setting<LogLevel>,
  'log-format': logFormatSetting,
  insecure: {
    description: 'a flag of Flower, refused: a node always uses TLS',
    default: false,
    parse: neverInsecure,
  },
} satisfies Settings;

/** Pairs that are there, or the file they are in. */
export type NodeConfigSource = { readonly pairs: NodeConfig } | { readonly file: string };

/** An app key, with the lowest version of its apps. */
export interface SignerFile {
  readonly file: string;
  readonly lowestVersion?: string | undefined;
}

/** `author.pub` or `author.pub@1.2.0`. What follows the last `@` is a version when it begins with a digit. */
function parseSigner(raw: unknown): SignerFile {
  const text = as.text(raw);
  const [, file, lowestVersion] = /^(.+)@(\d[^/]*)$/.exec(text) ?? [];
  if (file === undefined || lowestVersion === undefined) return { file: text };
  if (!isVersion(lowestVersion)) throw new Error('expected FILE or FILE@VERSION, such as author.pub@1.2.0');
  return { file, lowestVersion };
}

function parseLink(raw: unknown): Address {
  const address = as.address(raw);
  if (address.port === 0) throw new Error('expected a port from 1 to 65535');
  return address;
}

/** Pairs as text, `@` and a path, or what a YAML mapping holds. */
function parseNodeConfigSource(raw: unknown): NodeConfigSource {
  if (typeof raw === 'object' && raw !== null && !Array.isArray(raw))
    return { pairs: nodeConfigFromMapping(raw) };
  if (typeof raw !== 'string') throw new Error('expected pairs such as partition-id=1, or @FILE');
  if (!raw.startsWith('@')) return { pairs: parseNodeConfig(raw) };
  if (raw === '@') throw new Error('expected a path after @');
  return { file: raw.slice(1) };
}

function parseFileOnly(raw: unknown): object {
  if (typeof raw === 'object' && raw !== null && !Array.isArray(raw)) return raw;
  throw new Error('belongs into a configuration file: others can read arguments and environments');
}

function parseTenant(raw: unknown): string {
  const name = as.text(raw);
  if (name.length > 255) throw new Error('at most 255 characters');
  return name;
}

function neverInsecure(raw: unknown): boolean {
  if (!as.flag(raw)) return false;
  throw new Error('there is no insecure mode: for development make certificates with "rollcall certs"');
}

export type NodeSettings = ValuesOf<typeof nodeSettings>;

/** Settings that can be used: what is needed is there. */
export interface UsableNodeSettings extends NodeSettings {
  readonly link: Address;
  readonly 'root-certificates': string;
  readonly 'auth-private-key': string;
}

/** Throws one CONFIG_INVALID that lists what is missing, one a line. */
export function requireUsable(settings: NodeSettings): asserts settings is UsableNodeSettings {
  const needed = ['link', 'root-certificates', 'auth-private-key'] as const;
  const problems = needed.filter(name => settings[name] === undefined).map(name => `--${name} is needed`);
  if (settings['proxy-credentials-file'] !== undefined && settings.proxy === undefined)
    problems.push('--proxy is needed with --proxy-credentials-file');
  if (runsApps(settings) && settings.isolation === 'process' && settings['app-host-socket'] === undefined)
    problems.push('--app-host-socket is needed to run apps, or --isolation subprocess for development');
  if (
    settings.isolation === 'process' &&
    settings['app-host-socket'] !== undefined &&
    settings['state-dir'] === undefined
  )
    problems.push('--state-dir is needed with --app-host-socket: the key of its app host is kept there');
  if (problems.length === 0) return;
  throw new RollcallError('CONFIG_INVALID', problems.join('\n'), {
    hint: 'rollcall node --help shows all settings and an example',
  });
}

/** Whether there is any app that would run here. */
export function runsApps(settings: NodeSettings): boolean {
  return settings['trust-any-app'] || settings.app !== undefined || settings['trust-app-signer'].length > 0;
}
