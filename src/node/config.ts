/** The agent's settings: one schema for flags, environment (`ROLLCALL_NODE_*`) and file. */
import { RollcallError } from '../base/errors.js';
import { logLevels, type LogLevel } from '../base/log.js';
import { as, type Address, type Setting, type Settings, type ValuesOf } from '../base/settings.js';
import { defaultTenant } from '../protocol/limits.js';
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
  'root-certificates': path(
    'FILE',
    'server roots, PEM: what the link is recognised by; in a configuration file also the PEM itself',
  ),
  'auth-private-key': path('FILE', "this node's private key: OpenSSH, PKCS#8 or SEC1; 0600", [
    'auth-supernode-private-key',
  ]),
  'auth-private-key-passphrase-file': path(
    'FILE',
    `its passphrase, when it is encrypted; 0600 (or ${passphraseVariable}, or a prompt)`,
  ),
  'node-config': {
    value: 'PAIRS',
    description: `settings for what runs here: 'dataset-path="datasets/part_1" partition-id=1', or @FILE`,
    default: { pairs: Object.freeze({}) },
    parse: parseNodeConfigSource,
  } as Setting<NodeConfigSource>,
  'state-dir': path(
    'DIR',
    'where session key and certificate are kept; without one every start enrolls anew',
  ),
  tenant: {
    value: 'NAME',
    description: 'the tenant this node is registered in',
    default: defaultTenant,
    parse: parseTenant,
  },
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
  insecure: { description: 'refused: there is no link without TLS', default: false, parse: neverInsecure },
} satisfies Settings;

/** Pairs that are there, or the file they are in. */
export type NodeConfigSource = { readonly pairs: NodeConfig } | { readonly file: string };

function parseLink(raw: unknown): Address {
  const address = as.address(raw);
  if (address.port === 0) throw new Error('wants a port from 1 to 65535');
  return address;
}

/** Pairs as text, `@` and a path, or what a YAML mapping holds. */
function parseNodeConfigSource(raw: unknown): NodeConfigSource {
  if (typeof raw === 'object' && raw !== null && !Array.isArray(raw))
    return { pairs: nodeConfigFromMapping(raw) };
  if (typeof raw !== 'string') throw new Error('wants pairs such as partition-id=1, or @FILE');
  if (!raw.startsWith('@')) return { pairs: parseNodeConfig(raw) };
  if (raw === '@') throw new Error('wants a path after @');
  return { file: raw.slice(1) };
}

function parseFileOnly(raw: unknown): object {
  if (typeof raw === 'object' && raw !== null && !Array.isArray(raw)) return raw;
  throw new Error('belongs into a configuration file: others can read arguments and environments');
}

function parseTenant(raw: unknown): string {
  const name = as.text(raw);
  if (name.length > 255) throw new Error('wants at most 255 characters');
  return name;
}

function neverInsecure(raw: unknown): boolean {
  if (!as.flag(raw)) return false;
  throw new Error(
    'there is no insecure mode: for development make certificates with "npm run generate-certs"',
  );
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
  if (problems.length === 0) return;
  throw new RollcallError('CONFIG_INVALID', problems.join('\n'), {
    hint: 'rollcall node --help shows all settings and an example',
  });
}
