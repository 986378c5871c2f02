/**
 * Starts a link in this process. `rollcall link` does it for a process of its own; programs and tests of others import
 * it as `rollcall/link`.
 *
 *     const link = await startLink({ 'data-dir': 'data', 'ssl-certfile': …, 'ssl-keyfile': …, 'ssl-ca-certfile': … });
 *     console.log(link.nodeAddress, link.setupCode);
 *     await link.stop();
 */
import { systemClock } from '../base/clock.js';
import { readNamedConfigFile } from '../base/config-file.js';
import { createLog, type Log } from '../base/log.js';
import { systemRandom } from '../base/random.js';
import { makeSecretFolder } from '../base/secret-file.js';
import { formatAddress } from '../base/settings.js';
import { openLevelStore } from '../store/level.js';
import { collectLinkConfig, requireUsable, serverSettings } from './config.js';
import { environmentPrefix, keyPassphraseVariable } from './settings.js';
import { loadServerIdentity } from './doors/tls/server-identity.js';
import { Link, storeFolder } from './link.js';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface RunningLink {
  /** host:port for nodes, with the port that it really is. */
  readonly nodeAddress: string;
  /** host:port for operators, programs and REST. */
  readonly controlAddress: string;
  readonly trustDomain: string;
  /** Makes the first admin; undefined once there is one. Secret. */
  readonly setupCode: string | undefined;
  /** Reads the certificate files again. Rejects with CONFIG_INVALID for a bad one, and keeps those in use. */
  reload(): Promise<void>;
  /** Tells every node, ends every session and closes the store. Twice is one promise. */
  stop(): Promise<void>;
}

/**
 * Resolves when both ports take connections. The settings have the names of the flags (docs/reference/settings.md); the
 * log goes to standard error as JSON unless `log-format` says otherwise. Rejects with CONFIG_INVALID, which lists every
 * problem of the settings, STORE_LOCKED, or an error of a file.
 */
export async function startLink(settings: Readonly<Record<string, unknown>>): Promise<RunningLink> {
  const flags = { 'log-format': 'json', ...settings };
  const { link } = await openLink(await collectConfig({ flags, environment: {} }), {});
  const { node, control } = link.addresses;
  let stopped: Promise<void> | undefined;
  return {
    nodeAddress: formatAddress(node),
    controlAddress: formatAddress(control),
    trustDomain: link.trustDomain,
    setupCode: link.access.setup.tell(),
    reload: () => link.reload(),
    stop: () => (stopped ??= link.drain().then(() => link.close())),
  };
}

export interface LinkSource {
  /** By setting name. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Environment;
}

/** A link that has started, and its log. */
export async function openLink(
  collected: Awaited<ReturnType<typeof collectConfig>>,
  environment: Environment,
): Promise<{ readonly link: Link; readonly log: Log }> {
  const config = requireUsable(collected);
  const keyPassphrase = environment[keyPassphraseVariable];
  const log = createLog({
    level: config['log-level'],
    format: config['log-format'],
    name: 'rollcall-link',
  });
  // Before the store, so that a wrong file is told also while another link has the store open.
  await loadServerIdentity({ ...serverSettings(config, keyPassphrase), now: systemClock.now() });
  await makeSecretFolder(config['data-dir'], 'data folder', '--data-dir');
  const store = await openLevelStore(storeFolder(config['data-dir']));
  const { PATH, LANG, TZ } = environment;
  const link = new Link({
    config,
    store,
    clock: systemClock,
    random: systemRandom,
    environment: { PATH, LANG, TZ },
    log,
    keyPassphrase,
  });
  await link.start();
  return { link, log };
}

export async function collectConfig({ flags, environment }: LinkSource) {
  const { file, filePath } = await readNamedConfigFile(flags, environment, environmentPrefix);
  return collectLinkConfig({
    flags,
    environment: withoutPassphrase(environment),
    environmentPrefix,
    file,
    filePath,
  });
}

/** It is read where the key is; as a setting it could come from an argument. */
function withoutPassphrase(environment: Environment): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => name !== keyPassphraseVariable));
}
