/** The agent as a process: reads settings and keys, runs, and obeys signals. */
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { systemClock } from '../base/clock.js';
import { readNamedConfigFile } from '../base/config-file.js';
import { RollcallError, toRollcallError } from '../base/errors.js';
import { createLog, type Log } from '../base/log.js';
import { printProblems } from '../base/problem-lines.js';
import { fromPem, toPem } from '../base/pem.js';
import { loadRoute, type Route } from '../base/proxy.js';
import { systemRandom } from '../base/random.js';
import { readSmallFile, type Warn } from '../base/secret-file.js';
import { formatAddress, readSettings } from '../base/settings.js';
import { version } from '../base/version.js';
import { loadPrivateKeyFile } from '../identity/key-file.js';
import { createPassphraseSource } from '../identity/passphrase.js';
import type { PrivateKey } from '../identity/private-key.js';
import { createAgent, type Agent } from './agent.js';
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

export interface NodeRun {
  /** By setting name. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stderr: { write(text: string): unknown };
}

/** `revoked` is its own, so that anyone who supervises the process knows that starting it again is of no use. */
export const nodeExitCodes = { toldTo: 0, local: 2, revoked: 4 } as const;

/** Runs until a signal says stop, something on this machine is wrong, or the node is revoked; gives the exit code. */
export async function runNode({ flags, environment, stderr }: NodeRun): Promise<number> {
  try {
    const settings = await readNodeSettings(flags, environment);
    const [agent, log] = await prepare(settings, environment);
    const stopListening = obeySignals(agent, log);
    try {
      const outcome = await agent.start();
      if (outcome.reason === 'closed') return nodeExitCodes.toldTo;
      log.error({ code: outcome.error.code }, 'revoked');
      printProblems(stderr, revoked());
      return nodeExitCodes.revoked;
    } finally {
      stopListening();
    }
  } catch (error) {
    printProblems(stderr, toRollcallError(error));
    return nodeExitCodes.local;
  }
}

async function readNodeSettings(
  flags: NodeRun['flags'],
  environment: NodeRun['environment'],
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
function withoutPassphrase(environment: NodeRun['environment']): NodeRun['environment'] {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => name !== passphraseVariable));
}

/** Everything that can be wrong on this machine is found here, before anything is connected to. */
async function prepare(
  settings: UsableNodeSettings,
  environment: NodeRun['environment'],
): Promise<[Agent, Log]> {
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
  const privateKey = await loadNodeKey(settings, environment, log);
  const { fingerprint } = privateKey.publicKey;
  log.info(
    { link: formatAddress(link), proxy: route.proxy?.url, tenant, fingerprint, stateDir, version },
    'node agent starts',
  );
  const config = { link, route, serverRoots, tenant, stateDir };
  const runs = await prepareRuns(settings, nodeConfig, environment, log);
  return [createAgent({ config, privateKey, runs, clock: systemClock, random: systemRandom, log }), log];
}

function findRoute(
  settings: UsableNodeSettings,
  environment: NodeRun['environment'],
  log: Log,
): Promise<Route> {
  const { link, proxy: setting } = settings;
  const credentialsFile = settings['proxy-credentials-file'];
  const rootsFile = settings['proxy-root-certificates'];
  return loadRoute({ credentialsFile, rootsFile, warn: warnIn(log) }, { setting, environment, link });
}

/** Unless it was told of an app or a signer, the node refuses every app; that it is asked to run one is told. */
async function prepareRuns(
  settings: UsableNodeSettings,
  nodeConfig: NodeConfig,
  environment: NodeRun['environment'],
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
  environment: NodeRun['environment'],
  log: Log,
): Promise<PrivateKey> {
  const path = settings['auth-private-key'];
  const warn = warnIn(log);
  const passphrase = createPassphraseSource({
    warn,
    file: settings['auth-private-key-passphrase-file'],
    environment: environment[passphraseVariable],
    terminal: process.stdin.isTTY
      ? { input: process.stdin, output: process.stderr, question: `passphrase of ${path}: ` }
      : undefined,
  });
  return loadPrivateKeyFile(path, { passphrase, warn });
}

/** The first SIGTERM or SIGINT says good-bye to the link, a second one quits at once. */
function obeySignals(agent: Agent, log: Log): () => void {
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) process.exit(1);
    stopping = true;
    log.info({ signal }, 'node agent stops');
    void agent.close();
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  return () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, stop);
  };
}

function revoked(): RollcallError {
  return new RollcallError(
    'NODE_REVOKED',
    "this node was revoked by the link's operator and will not come back",
    {
      hint: 'register it again deliberately ("rollcall nodes register --again") or take it out of service',
    },
  );
}
