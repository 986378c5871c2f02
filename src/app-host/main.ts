/** The app host as a process: reads settings, runs, and obeys signals. */
import { systemClock } from '../base/clock.js';
import { toRollcallError, type RollcallError } from '../base/errors.js';
import { createLog, type Log } from '../base/log.js';
import { readSettings } from '../base/settings.js';
import { version } from '../base/version.js';
import { appHostSettings, environmentPrefix, requireUsable, type UsableAppHostSettings } from './config.js';
import { defaultRunnerPrograms } from './runner-programs.js';
import { runSupervisor } from './supervisor.js';

export interface AppHostRun {
  /** By setting name. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stderr: { write(text: string): unknown };
}

export const appHostExitCodes = { toldTo: 0, local: 2 } as const;

/** Runs until a signal says stop, and ends its runners; gives the exit code. */
export async function runAppHost({ flags, environment, stderr }: AppHostRun): Promise<number> {
  try {
    const settings = await readAppHostSettings(flags, environment);
    const socketPath = settings.socket;
    const log = createLog({ level: settings['log-level'], name: 'rollcall-app-host' });
    log.info({ socketPath, version }, 'app host starts');
    if (settings['allow-root'] && isRoot()) log.warn({}, 'apps run as root here');
    const ending = new AbortController();
    const stopListening = obeySignals(ending, log);
    // Nothing else keeps the process up while it waits to connect again.
    const stayingUp = setInterval(() => undefined, 2 ** 30);
    try {
      const programs = defaultRunnerPrograms();
      const { signal } = ending;
      await runSupervisor({ socketPath, programs, environment, clock: systemClock, log, signal });
      return appHostExitCodes.toldTo;
    } finally {
      clearInterval(stayingUp);
      stopListening();
    }
  } catch (error) {
    print(stderr, toRollcallError(error));
    return appHostExitCodes.local;
  }
}

async function readAppHostSettings(
  flags: AppHostRun['flags'],
  environment: AppHostRun['environment'],
): Promise<UsableAppHostSettings> {
  const named = flags['config'] ?? environment[`${environmentPrefix}CONFIG`];
  const filePath = typeof named === 'string' ? named : undefined;
  // The reader of YAML is loaded only for those who use it.
  const file =
    filePath === undefined
      ? undefined
      : await (await import('../base/config-file.js')).readConfigFile(filePath);
  const settings = readSettings(appHostSettings, { flags, environment, environmentPrefix, file, filePath });
  requireUsable(settings, process.getuid?.());
  return settings;
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** The first SIGTERM or SIGINT ends the runners, a second one quits at once, and they end by themselves. */
function obeySignals(ending: AbortController, log: Log): () => void {
  const stop = (signal: NodeJS.Signals): void => {
    if (ending.signal.aborted) process.exit(1);
    log.info({ signal }, 'app host stops');
    ending.abort();
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  return () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, stop);
  };
}

/** One `error:` line for each problem. */
function print(stderr: AppHostRun['stderr'], { message, hint }: RollcallError): void {
  for (const line of message.split('\n')) stderr.write(`error: ${line.replaceAll(/\p{Cc}/gu, '?')}\n`);
  if (hint !== undefined) stderr.write(`hint: ${hint.replaceAll(/\p{Cc}/gu, '?')}\n`);
}
