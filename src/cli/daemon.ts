/**
 * The commands that run until told to stop: `rollcall link`, `rollcall node` and `rollcall app-host`. Their flags come from the
 * settings schema of the room they start; the schema is imported only when they are asked for, the room itself only
 * once the flags are right.
 */
import { Command } from 'commander';
import { isRollcallError, RollcallError } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { addSettingFlags, type Flags } from './settings-flags.js';
import type { Shell } from './shell.js';

interface Daemon {
  readonly summary: string;
  readonly examples: string;
  readonly environmentPrefix: string;
  readonly settings: Settings;
  readonly run: (flags: Flags, shell: Shell) => Promise<number>;
}

async function linkDaemon(): Promise<Daemon> {
  const { environmentPrefix, linkSettings } = await import('../link/settings.js');
  return {
    summary: 'run the link: the server that nodes enroll with and connect to',
    examples: `
Examples:
  $ rollcall link --ssl-ca-certfile certificates/ca.crt --ssl-certfile certificates/server.pem \\
      --ssl-keyfile certificates/server.key --data-dir link-data
  $ rollcall link --config link.yaml --check-config`,
    environmentPrefix,
    settings: linkSettings,
    run: async (flags, { environment, stdout, stderr }) => {
      const { runLink } = await import('../link/main.js');
      const around = { flags, environment, stdout, stderr };
      return runLink(around);
    },
  };
}

async function nodeDaemon(): Promise<Daemon> {
  const { environmentPrefix, nodeSettings } = await import('../node/config.js');
  return {
    summary: 'run a node agent: enroll by its key and hold the link',
    examples: `
Example:
  $ rollcall node --link 127.0.0.1:9092 --root-certificates certificates/ca.crt \\
      --auth-private-key keys/client_credentials_1 --state-dir node-state/1`,
    environmentPrefix,
    settings: nodeSettings,
    run: async (flags, { environment, stdout, stderr }) => {
      const { runNode } = await import('../node/main.js');
      const around = { flags, environment, stdout, stderr };
      return runNode(around);
    },
  };
}

async function appHostDaemon(): Promise<Daemon> {
  const { appHostSettings, environmentPrefix } = await import('../app-host/hosting/config.js');
  return {
    summary: 'run an app host: apps of a link or an agent, under a user that can read nothing else',
    examples: `
Example:
  $ sudo -u apps rollcall app-host --socket /run/rollcall/apps.sock --key - < link-data/app-host.key`,
    environmentPrefix,
    settings: appHostSettings,
    run: async (flags, { environment, stderr }) => {
      const { runAppHost } = await import('../app-host/hosting/main.js');
      return runAppHost({ flags, environment, stderr });
    },
  };
}

const daemons = { link: linkDaemon, node: nodeDaemon, 'app-host': appHostDaemon } as const;

export type DaemonName = keyof typeof daemons;

function otherSources(environmentPrefix: string): string {
  return `
A setting can also come from the environment (--log-level: ${environmentPrefix}LOG_LEVEL)
or from the file of --config (log-level: …). A flag wins over the environment, the environment over the file.
`;
}

/** Parses the arguments after `rollcall link` and its like and runs it; gives its exit code. */
export async function runDaemon(
  shell: Shell,
  parent: Command,
  name: DaemonName,
  args: string[],
): Promise<number> {
  const { summary, examples, environmentPrefix, settings, run } = await daemons[name]();
  const command = new Command(`rollcall ${name}`).copyInheritedSettings(parent).description(summary);
  const flags = addSettingFlags(command, settings);
  command.addHelpText('after', otherSources(environmentPrefix) + examples).allowExcessArguments(false);
  command.parse(args, { from: 'user' });
  return run(flags, shell).catch((error: unknown) => {
    const isBare = isRollcallError(error, 'CONFIG_INVALID') && error.hint === undefined;
    if (!isBare) throw error;
    const hint = `rollcall ${name} --help shows all settings and an example`;
    throw new RollcallError(error.code, error.message, { hint, cause: error });
  });
}
