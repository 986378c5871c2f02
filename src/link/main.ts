/** The link as a process: reads the configuration, opens the store, starts, and obeys signals. */
import { createLog, type Log } from '../base/log.js';
import { systemClock } from '../base/clock.js';
import { readNamedConfigFile } from '../base/config-file.js';
import { systemRandom } from '../base/random.js';
import { makeSecretFolder } from '../base/secret-file.js';
import { checkLink } from './check.js';
import {
  collectLinkConfig,
  environmentPrefix,
  keyPassphraseVariable,
  requireUsable,
  serverSettings,
} from './config.js';
import { loadServerIdentity } from './doors/tls/server-identity.js';
import { Link, storeFolder } from './link.js';
import { openLevelStore } from '../store/level.js';

export interface LinkRun {
  /** By setting name. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/** Runs until a signal says stop; gives the exit code. Configuration problems are thrown as CONFIG_INVALID. */
export async function runLink({ flags, environment, stdout, stderr }: LinkRun): Promise<number> {
  const collected = await collectConfig(flags, environment);
  const outside = {
    clock: systemClock,
    random: systemRandom,
    keyPassphrase: environment[keyPassphraseVariable],
  };
  if (collected.values['check-config']) {
    const warnings = await checkLink(collected, outside);
    for (const warning of warnings) stderr.write(`warning: ${warning}\n`);
    stdout.write('the configuration is good\n');
    return 0;
  }
  const config = requireUsable(collected);
  const log = createLog({
    level: config['log-level'],
    format: config['log-format'],
    name: 'rollcall-link',
  });
  // Before the store, so that a wrong file is told also while another link has the store open.
  await loadServerIdentity({ ...serverSettings(config, outside.keyPassphrase), now: systemClock.now() });
  await makeSecretFolder(config['data-dir'], 'data folder', '--data-dir');
  const store = await openLevelStore(storeFolder(config['data-dir']));
  const { PATH, LANG, TZ } = environment;
  const link = new Link({ config, store, log, environment: { PATH, LANG, TZ }, ...outside });
  await link.start();
  tellSetupCode(link, config['ssl-ca-certfile'], stdout);
  return untilStopped(link, log);
}

/** On standard output alone, never in the log: the log may go where the code must not. */
function tellSetupCode({ access }: Link, rootsFile: string, stdout: LinkRun['stdout']): void {
  const code = access.setup.tell();
  if (code === undefined) return;
  stdout.write(`The first admin is made with this setup code, which is shown only now:

    ${code}

It is in ${access.setup.path ?? ''} as well, until it was used:

    rollcall login --setup --root-certificates ${rootsFile}

`);
}

async function collectConfig(flags: LinkRun['flags'], environment: LinkRun['environment']) {
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
function withoutPassphrase(environment: LinkRun['environment']): LinkRun['environment'] {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => name !== keyPassphraseVariable));
}

/** SIGTERM and SIGINT drain; a second one quits at once. SIGHUP reads the certificates again. */
function untilStopped(link: Link, log: Log): Promise<number> {
  return new Promise(resolve => {
    let stopping = false;
    const stop = (signal: string): void => {
      if (stopping) process.exit(1);
      stopping = true;
      log.info({ signal }, 'link stopping');
      link
        .drain()
        .then(() => link.close())
        .then(
          () => resolve(0),
          (error: unknown) => {
            log.error({ err: error }, 'the link did not stop well');
            resolve(1);
          },
        );
    };
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal));
    // What comes of it stands in the log and in the audit log.
    process.on('SIGHUP', () => void link.reload().catch(() => undefined));
  });
}
