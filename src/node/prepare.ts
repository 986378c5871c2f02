/** Reads and checks all that an agent needs from this machine before it connects: settings, keys, apps. */
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { systemClock } from '../base/clock.js';
import { readNamedConfigFile } from '../base/config-file.js';
import { RollcallError, toRollcallError } from '../base/errors.js';
import { createLog, type Log } from '../base/log.js';
import { fromPem, toPem } from '../base/pem.js';
import { loadRoute, type Route } from '../base/proxy.js';
import { systemRandom } from '../base/random.js';
import { readSmallFile, type Warn } from '../base/secret-file.js';
import { formatAddress, readSettings } from '../base/settings.js';
import { version } from '../base/version.js';
import { loadPrivateKeyFile } from '../identity/key-file.js';
import { createPassphraseSource, type PassphraseTerminal } from '../identity/passphrase.js';
import type { PrivateKey } from '../identity/private-key.js';
import { Agent, type AgentStatus } from './agent.js';
import {
  environmentPrefix,
  nodeSettings,
  passphraseVariable,
  requireUsable,
  runsApps,
  type NodeConfigSource,
  type UsableNodeSettings,
} from './config.js';
import { maxNodeConfigBytes, parseNodeConfig, type NodeConfig } from './node-config.js';
import { openAppSource } from './runs/app-source.js';
import { NodeRuns } from './runs/node-runs.js';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Surroundings {
  readonly environment: Environment;
  /** Asks for the passphrase of the key; without it nobody is asked. */
  readonly terminal?: Omit<PassphraseTerminal, 'question'> | undefined;
  /** Called after each change of the status. */
  readonly onStatus?: ((status: AgentStatus) => void) | undefined;
}

/** Settings from flags, environment and file. Rejects with CONFIG_INVALID, which lists every problem. */
export async function readNodeSettings(
  flags: Readonly<Record<string, unknown>>,
  environment: Environment,
): Promise<UsableNodeSettings> {
  const { file, filePath } = await readNamedConfigFile(flags, environment, environmentPrefix);
  const settings = readSettings(nodeSettings, {
    flags,
    environment: withoutPassphrase(environment),
    environmentPrefix,
    file,
    filePath,
  });
  requireUsable(settings);
  return settings;
}

/** It is read where the key is; as a setting it could come from an argument. */
function withoutPassphrase(environment: Environment): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => name !== passphraseVariable));
}

/** Everything that can be wrong on this machine is found here, before anything is connected to. */
export async function prepareAgent(
  settings: UsableNodeSettings,
  { environment, terminal, onStatus }: Surroundings,
): Promise<{ readonly agent: Agent; readonly log: Log }> {
  const log = createLog({
    level: settings['log-level'],
    format: settings['log-format'],
    name: 'rollcall-node',
  });
  const { link, tenant, 'state-dir': stateDir } = settings;
  const [serverRoots, nodeConfig, route] = await Promise.all([
    loadServerRoots(settings['root-certificates']),
    loadNodeConfig(settings['node-config']),
    findRoute(settings, environment, log),
  ]);
  const privateKey = await loadNodeKey(settings, { environment, terminal }, log);
  const { fingerprint } = privateKey.publicKey;
  log.info(
    { link: formatAddress(link), proxy: route.proxy?.url, tenant, fingerprint, stateDir, version },
    'node agent starts',
  );
  const config = { link, route, serverRoots, tenant, stateDir };
  const runs = await prepareRuns(settings, nodeConfig, environment, log);
  const agent = new Agent({
    ...{ config, privateKey, runs, onStatus, log },
    ...{ clock: systemClock, random: systemRandom },
  });
  return { agent, log };
}

function findRoute(settings: UsableNodeSettings, environment: Environment, log: Log): Promise<Route> {
  const { link, proxy: setting } = settings;
  const credentialsFile = settings['proxy-credentials-file'];
  const rootsFile = settings['proxy-root-certificates'];
  return loadRoute({ credentialsFile, rootsFile, warn: warnIn(log) }, { setting, environment, link });
}

/** Without a setting that names an app or a signer, the node refuses every app, and logs that it was asked to run one. */
async function prepareRuns(
  settings: UsableNodeSettings,
  nodeConfig: NodeConfig,
  environment: Environment,
  log: Log,
): Promise<NodeRuns> {
  const { isolation, app: folder } = settings;
  const any = settings['trust-any-app'];
  if (any) log.warn({}, 'RUNS ANY APP the link hands out (--trust-any-app): for development alone');
  if (!runsApps(settings)) log.info({}, 'trusts no app signer: no app runs here (--trust-app-signer)');
  if (runsApps(settings) && isolation === 'subprocess')
    log.warn({}, 'apps run as the user of this agent, and can read its keys (--isolation subprocess)');
  const socketPath = settings['app-host-socket'];
  const { PATH, LANG, TZ } = environment;
  return new NodeRuns({
    apps: await openAppSource({ signers: settings['trust-app-signer'], folder, any }),
    nodeConfig,
    folder: settings['state-dir'],
    hostingAtStart: isolation === 'process' && socketPath !== undefined,
    async openHosting() {
      // Loaded only where apps run.
      const [{ createHosting }, { openHostKey }, { defaultRunnerPrograms }] = await Promise.all([
        import('../app-host/hosting/create-hosting.js'),
        import('../app-host/hosting/host-key.js'),
        import('../app-host/hosting/runner-programs.js'),
      ]);
      const programs = defaultRunnerPrograms();
      const stateDir = settings['state-dir'];
      const hostKey =
        socketPath === undefined || stateDir === undefined
          ? undefined
          : await openHostKey(join(stateDir, 'app-host.key'), systemRandom);
      return createHosting({
        isolation,
        socketPath,
        hostKey,
        programs,
        environment: { PATH, LANG, TZ },
        clock: systemClock,
        log,
      });
    },
    maxRuns: settings['max-runs'],
    handlerTimeoutMs: settings['handler-timeout'],
    memoryBytes: settings['app-memory'],
    objectBytes: settings['object-space'],
    minFreeBytes: settings['min-free-disk'],
    clock: systemClock,
    random: systemRandom,
    log,
  });
}

/** A path, or the certificates themselves. */
async function loadServerRoots(given: string): Promise<readonly string[]> {
  const isPem = given.startsWith('-----BEGIN ');
  const text = isPem ? given : (await readSmallFile(given, 'root certificates')).toString('utf8');
  const path = isPem ? 'the configuration' : given;
  return fromPem(text, `file of root certificates ${path}`).map(der => {
    try {
      return toPem(new X509Certificate(der).raw);
    } catch (error) {
      throw new RollcallError('CONFIG_INVALID', `a root certificate in ${path} is damaged`, { cause: error });
    }
  });
}

async function loadNodeConfig(source: NodeConfigSource): Promise<NodeConfig> {
  if ('pairs' in source) return source.pairs;
  const text = (await readSmallFile(source.file, 'node config', maxNodeConfigBytes)).toString('utf8');
  try {
    return parseNodeConfig(text);
  } catch (error) {
    const { code, message } = toRollcallError(error);
    throw new RollcallError(code, `${source.file}: ${message}`, { cause: error });
  }
}

function warnIn(log: Log): Warn {
  return (message, hint) => log.warn({ hint }, message);
}

function loadNodeKey(
  settings: UsableNodeSettings,
  { environment, terminal }: Surroundings,
  log: Log,
): Promise<PrivateKey> {
  const path = settings['auth-private-key'];
  const warn = warnIn(log);
  const passphrase = createPassphraseSource({
    warn,
    file: settings['auth-private-key-passphrase-file'],
    environment: environment[passphraseVariable],
    terminal: terminal && { ...terminal, question: `passphrase of ${path}: ` },
  });
  return loadPrivateKeyFile(path, { passphrase, warn });
}
