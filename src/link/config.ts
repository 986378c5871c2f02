/** The link's configuration: collected from flags, environment and file, and judged as a whole. */
import { RollcallError } from '../base/errors.js';
import { collectSettings, type Collected, type Sources, type ValuesOf } from '../base/settings.js';
import { createPassphraseSource } from '../identity/passphrase.js';
import { linkSettings } from './settings.js';

export type LinkConfig = ValuesOf<typeof linkSettings>;

interface ServerFileSettings {
  readonly 'ssl-ca-certfile': string;
  readonly 'ssl-certfile': string;
  readonly 'ssl-keyfile': string;
}

/** A configuration that can be used: what is needed is there. */
export type UsableLinkConfig = LinkConfig & ServerFileSettings;

/** The files are named; of the rest there may be what could not be read. */
export type ServerConfig = Partial<LinkConfig> & ServerFileSettings;

export function namesServerFiles(config: Partial<LinkConfig>): config is ServerConfig {
  return (['ssl-ca-certfile', 'ssl-certfile', 'ssl-keyfile'] as const).every(
    name => config[name] !== undefined,
  );
}

/** Problems between settings, a line each. */
function findLinkProblems(config: Partial<LinkConfig>): string[] {
  const problems = (['ssl-ca-certfile', 'ssl-certfile', 'ssl-keyfile'] as const)
    .filter(name => config[name] === undefined)
    .map(name => `--${name} is needed (for development: rollcall certs)`);
  if ((config['authority-certfile'] === undefined) !== (config['authority-keyfile'] === undefined)) {
    problems.push('--authority-certfile and --authority-keyfile go together');
  }
  return problems;
}

/** The link's own certificate: where it is, what opens its key, and the hosts that nodes are sent to. */
export function serverSettings(config: ServerConfig, keyPassphrase?: string) {
  const { 'link-addresses': addresses = [] } = config;
  return {
    files: {
      certificateFile: config['ssl-certfile'],
      keyFile: config['ssl-keyfile'],
      rootsFile: config['ssl-ca-certfile'],
    },
    hosts: addresses.map(address => address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')),
    passphrase: createPassphraseSource({
      file: config['ssl-keyfile-passphrase-file'],
      environment: keyPassphrase,
    }),
  };
}

/** The settings, with every problem that can be seen without looking at a file. */
export function collectLinkConfig(sources: Sources): Collected<typeof linkSettings> {
  const { values, problems } = collectSettings(linkSettings, sources);
  return { values, problems: [...problems, ...findLinkProblems(values)] };
}

/** Throws one CONFIG_INVALID that lists them, one a line. */
export function requireUsable({ values, problems }: Collected<typeof linkSettings>): UsableLinkConfig {
  if (problems.length > 0) throw new RollcallError('CONFIG_INVALID', problems.join('\n'));
  return values as UsableLinkConfig;
}
