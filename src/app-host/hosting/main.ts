/** The app host as a process: reads settings, runs, and obeys signals. */
import { systemClock } from '../../base/clock.js';
import { readNamedConfigFile } from '../../base/config-file.js';
import { toRollcallError } from '../../base/errors.js';
import { createLog, type Log } from '../../base/log.js';
import { printProblems } from '../../base/problem-lines.js';
import { readSettings } from '../../base/settings.js';
import { version } from '../../base/version.js';
import { appHostSettings, environmentPrefix, requireUsable, type UsableAppHostSettings } from './config.js';
import { readHostKey } from './host-key.js';
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
    const log = createLog({
      level: settings['log-level'],
      format: settings['log-format'],
      name: 'rollcall-app-host',
    });
    const hostKey = await readHostKey(settings.key, (message, hint) => log.warn({ hint }, message));
    log.info({ socketPath, version }, 'app host starts');
    if (settings['allow-root'] && isRoot()) log.warn({}, 'apps run as root here');
    if (settings.key !== '-')
      log.warn(
        { keyFile: settings.key },
        'the apps that run here can read the key of this app host: give it as --key - < FILE',
      );
    const ending = new AbortController();
    const stopListening = obeySignals(ending, log);
    // Nothing else keeps the process up while it waits to connect again.
    const stayingUp = setInterval(() => undefined, 2 ** 30);
    try {
      const programs = defaultRunnerPrograms();
      const { signal } = ending;
      await runSupervisor({ socketPath, hostKey, programs, environment, clock: systemClock, log, signal });
      return appHostExitCodes.toldTo;
    } finally {
      clearInterval(stayingUp);
      stopListening();
    }
  } catch (error) {
    printProblems(stderr, toRollcallError(error));
    return appHostExitCodes.local;
  }
}

async function readAppHostSettings(
  flags: AppHostRun['flags'],
  environment: AppHostRun['environment'],
): Promise<UsableAppHostSettings> {
  const { file, filePath } = await readNamedConfigFile(flags, environment, environmentPrefix);
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
