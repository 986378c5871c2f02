/** The link as a process: reads the configuration, starts, and obeys signals. */
import { systemClock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import { systemRandom } from '../base/random.js';
import { checkLink } from './check.js';
import { keyPassphraseVariable } from './settings.js';
import type { Link } from './link.js';
import { collectConfig, openLink } from './start.js';

export interface LinkRun {
  /** By setting name. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/** Runs until a signal says stop; gives the exit code. Configuration problems are thrown as CONFIG_INVALID. */
export async function runLink({ flags, environment, stdout, stderr }: LinkRun): Promise<number> {
  const collected = await collectConfig({ flags, environment });
  if (collected.values['check-config']) {
    const warnings = await checkLink(collected, {
      clock: systemClock,
      random: systemRandom,
      keyPassphrase: environment[keyPassphraseVariable],
    });
    for (const warning of warnings) stderr.write(`warning: ${warning}\n`);
    stdout.write('the configuration is good\n');
    return 0;
  }
  const { link, log } = await openLink(collected, environment);
  tellSetupCode(link, String(collected.values['ssl-ca-certfile']), stdout);
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
    // Its outcome is in the log and in the audit log.
    process.on('SIGHUP', () => void link.reload().catch(() => undefined));
  });
}
