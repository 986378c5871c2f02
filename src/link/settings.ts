/** The table of the link's settings: flags, environment (`ROLLCALL_LINK_*`) and file alike. */
import { logFormatSetting, logLevels } from '../base/log.js';
import { as, type Setting, type Settings } from '../base/settings.js';
import { isTokenAlgorithm, tokenAlgorithms, type TokenAlgorithm } from '../tokens/algorithms.js';
import { defaultTenant } from '../protocol/limits.js';
import type { TokenAlgorithms } from './access/tokens/keys.js';
import type { Isolation } from '../app-host/hosting/hosting.js';
import { minFreeDiskSetting, objectSpaceSetting } from '../objects/settings.js';
import { parseTrustDomain } from '../identity/spiffe.js';

const second = 1_000;
const hour = 3_600 * second;

const file = (description: string, aliases?: readonly string[]): Setting<string | undefined> => ({
  value: 'FILE',
  description,
  parse: as.text,
  ...(aliases && { aliases }),
});

export const environmentPrefix = 'ROLLCALL_LINK_';

/** Only in the environment: everyone on a machine can read arguments. */
export const keyPassphraseVariable = `${environmentPrefix}SSL_KEYFILE_PASSPHRASE`;

export const isolations = ['process', 'subprocess'] as const;
export const bindingTypes = ['tls-exporter', 'tls-server-end-point'] as const;

export const linkSettings = {
  config: file('these settings as "key: value" lines of YAML'),
  'check-config': {
    description: 'validate the configuration, report every problem, and exit',
    default: false,
    parse: as.flag,
  },
  'ssl-ca-certfile': file(
    "CA certificates, PEM, sent to nodes to verify this link (those of the link's own chain); not used to verify clients",
  ),
  'ssl-certfile': file("the link's certificate chain, PEM, its own first"),
  'ssl-keyfile': file('the private key of that certificate, PEM, 0600'),
  'ssl-keyfile-passphrase-file': file(
    `its passphrase, when it is encrypted; 0600 (or ${keyPassphraseVariable})`,
  ),
  'data-dir': {
    value: 'DIR',
    description: 'folder of the registry, the authority and the token keys',
    default: 'link-data',
    parse: as.text,
  },
  'node-address': {
    value: 'HOST:PORT',
    description: 'address to listen at for nodes',
    default: { host: '0.0.0.0', port: 9092 },
    parse: as.listenAddress,
  },
  'control-address': {
    value: 'HOST:PORT',
    description: 'address to listen at for operators and programs',
    default: { host: '127.0.0.1', port: 9093 },
    parse: as.listenAddress,
  },
  'trust-domain': {
    value: 'NAME',
    description: 'the name of this fleet in every certificate; chosen at first start, then fixed',
    parse: raw => parseTrustDomain(as.text(raw)),
  } as Setting<string | undefined>,
  'authority-certfile': file('a CA certificate of your own to issue node certificates with, PEM'),
  'authority-keyfile': file('its private key, PEM, 0600'),
  'certificate-lifetime': {
    value: 'DURATION',
    description: 'lifetime of a node certificate',
    default: hour,
    parse: as.duration(10 * second, 30 * 24 * hour),
  },
  'link-addresses': {
    value: 'HOST:PORT,…',
    description: 'addresses that nodes get for their next connection (default: the one they used)',
    default: [] as readonly string[],
    parse: as.list(as.text),
  } as Setting<readonly string[]>,
  bindings: {
    value: 'TYPE,…',
    description: `channel bindings that tie the proof of a node to its TLS connection: ${bindingTypes.join(', ')}; add the second only for nodes whose TLS library has no exporter`,
    default: ['tls-exporter'],
    parse: as.list(as.oneOf(bindingTypes)),
  } as Setting<readonly string[]>,
  'max-connections': {
    value: 'N',
    description:
      'maximum number of connections of one port that are not the session of a node: handshakes, enrollments, operators',
    default: 4_096,
    parse: as.integer(1, 1_000_000),
  },
  'max-connections-per-address': {
    value: 'N',
    description: 'the same, from one IP address (or one IPv6 /64)',
    default: 1_024,
    parse: as.integer(1, 1_000_000),
  },
  issuer: {
    value: 'URL',
    description:
      'issuer named in tokens, where others find the keys to verify them (default: the control address)',
    parse: parseIssuer,
  } as Setting<string | undefined>,
  'token-algorithms': {
    value: 'ALG,AUDIENCE=ALG,…',
    description: `how tokens are signed: ${tokenAlgorithms.join(', ')}; for all, or for one audience`,
    default: { defaultAlgorithm: 'ES256', byAudience: {} },
    parse: parseTokenAlgorithms,
  } as Setting<TokenAlgorithms>,
  'require-auth': {
    description: 'require a token for /healthz, /readyz and /v1/link as well',
    default: false,
    parse: as.flag,
  },
  'control-client-certificates': {
    description: 'request a client certificate on the control port, for services that authenticate by one',
    default: false,
    parse: as.flag,
  },
  isolation: {
    value: 'HOW',
    description:
      'where server halves of apps run: "process", in an app host of another user; "subprocess", as children of this link, for one tenant and for development',
    default: 'process',
    parse: as.oneOf(isolations),
  } as Setting<Isolation>,
  'app-host-socket': {
    value: '[TENANT=]PATH,…',
    description:
      'where rollcall app-host connects, in a folder that is closed to others; without one there are no runs',
    default: [],
    parse: as.list(raw => parseHostSocket(as.text(raw))),
  } as Setting<readonly (readonly [tenant: string, path: string])[]>,
  'max-runs': {
    value: 'N',
    description: 'maximum number of runs of one tenant at once; others wait',
    default: 16,
    parse: as.integer(1, 1_000),
  },
  'max-queued-messages': {
    value: 'N',
    description: 'maximum number of messages that wait for one node',
    default: 1_000,
    parse: as.integer(1, 100_000),
  },
  'app-memory': {
    value: 'SIZE',
    description: 'maximum memory of one server half',
    default: 1024 * 1024 * 1024,
    parse: as.size(64 * 1024 * 1024, 2 ** 40),
  },
  'max-run-time': {
    value: 'DURATION',
    description: 'maximum duration of a run',
    default: 7 * 24 * hour,
    parse: as.duration(second, 365 * 24 * hour),
  },
  'object-space': objectSpaceSetting,
  'min-free-disk': minFreeDiskSetting('data folder'),
  'run-retention': {
    value: 'DURATION',
    description: 'time for which finished runs and their logs are kept',
    default: 30 * 24 * hour,
    parse: as.duration(60 * second, 3_650 * 24 * hour),
  },
  'audit-retention': {
    value: 'DURATION',
    description: 'minimum time for which audit events are kept; a signed checkpoint stands for older ones',
    default: 400 * 24 * hour,
    parse: as.duration(24 * hour, 36_500 * 24 * hour),
  },
  'max-enrollments': {
    value: 'N',
    description: 'maximum number of enrollments at once',
    default: 2_048,
    parse: as.integer(1, 1_000_000),
  },
  'log-level': {
    value: 'LEVEL',
    description: logLevels.join(', '),
    default: 'info',
    parse: as.oneOf(logLevels),
  } as Setting<(typeof logLevels)[number]>,
  'log-format': logFormatSetting,
  'enable-supernode-auth': {
    description: 'a flag of Flower, ignored: nodes always authenticate by their keys',
    default: true,
    parse: alwaysOn,
  },
  insecure: {
    description: 'a flag of Flower, refused: a link always uses TLS',
    default: false,
    parse: neverOff,
  },
} satisfies Settings;

/** `PATH` for the default tenant, `TENANT=PATH` for another. */
function parseHostSocket(text: string): readonly [tenant: string, path: string] {
  const equals = text.indexOf('=');
  const [tenant, path] =
    equals === -1 ? [defaultTenant, text] : [text.slice(0, equals), text.slice(equals + 1)];
  if (tenant !== '' && path !== '') return [tenant, path];
  throw new Error('expected PATH, or TENANT=PATH for another tenant than the default one');
}

function parseIssuer(raw: unknown): string {
  const text = as.text(raw);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'https:' && url.search === '' && url.hash === '' && !text.endsWith('/')) return text;
  throw new Error('expected an https URL without a query and without a slash at its end');
}

/** `ES256` for all that name none, `logging=HS256` for one audience. */
function parseTokenAlgorithms(raw: unknown): TokenAlgorithms {
  let defaultAlgorithm: TokenAlgorithm = 'ES256';
  const byAudience: Record<string, TokenAlgorithm> = {};
  for (const text of as.list(as.text)(raw)) {
    const equals = text.lastIndexOf('=');
    const algorithm = text.slice(equals + 1);
    if (!isTokenAlgorithm(algorithm)) throw new Error(`expected one of ${tokenAlgorithms.join(', ')}`);
    if (equals === -1) defaultAlgorithm = algorithm;
    else byAudience[text.slice(0, equals)] = algorithm;
  }
  return { defaultAlgorithm, byAudience };
}

function alwaysOn(raw: unknown): boolean {
  if (as.flag(raw)) return true;
  throw new Error('nodes are always authenticated here; leave it out');
}

function neverOff(raw: unknown): boolean {
  if (!as.flag(raw)) return false;
  throw new Error('there is no insecure mode: for development make certificates with "rollcall certs"');
}
