/** `rollcall run` and the tree of `rollcall runs …`: what can be typed. What each does is imported when it is asked for. */
import { Option, type Command } from 'commander';
import { addAskFlags, collect, type Acting } from '../nodes/command.js';
import type { Shell } from '../shell.js';

const runExamples = `
Examples:
  $ rollcall run examples/hello --stream
  $ rollcall run examples/digits/app --set rounds=5 --set learning-rate=0.1

The app is packed, signed with your app key (rollcall app keygen), and sent to the link. Without --stream the command
ends once the run is started, as with --detach. With --stream Ctrl-C detaches and the run goes on; twice stops it.

Exit codes with --stream: 0 completed or detached, 1 failed, 3 the link stayed away, 5 stopped.`;

const runsExamples = `
Examples:
  $ rollcall runs list --status running
  $ rollcall runs logs latest --follow
  $ rollcall runs stop 4711`;

const runArgument = ['<run>', 'id of the run, or latest'] as const;

/** Adds `run` and `runs` to the program. */
export function addRunCommands(program: Command, shell: Shell, acting: Acting): void {
  addAskFlags(program.command('run'))
    .description('start an app on the nodes, and show its log')
    .argument('<dir>', 'the folder with app.json')
    .option('--set <NAME=VALUE>', 'a setting of the app; may be given more than once', collect)
    // -c names a file everywhere else: told apart, so that nobody wonders why a setting had no effect.
    .addOption(new Option('-c, --config <FILE>').hideHelp())
    .option('--stream', 'print the log as it comes, and end with the outcome of the run')
    .option('--detach', 'return once the run has started (default)')
    .option('--app-key <FILE>', "the key to sign the app with (default: app-key in the user's config folder)")
    .option('--tenant <NAME>', 'fail unless this is the tenant of who asks')
    .option(
      '--idempotency-key <KEY>',
      'the same command with the same key gives the run that the first one started (default: a random key)',
    )
    .addHelpText('after', runExamples)
    .action(
      acting(async (folder: string, flags: object) =>
        (await import('./start.js')).startRun(shell, folder, flags),
      ),
    );

  const runs = program
    .command('runs')
    .description('list, show and stop runs, and read their logs')
    .helpCommand(false)
    .addHelpText('after', runsExamples);

  addAskFlags(runs.command('list'))
    .description('list runs, newest first')
    .option(
      '--status <STATUS>',
      'only runs with this status: pending, starting, running, finished; may be given more than once',
      collect,
    )
    .option('--limit <N>', 'at most so many')
    .action(acting(async (flags: object) => (await import('./list.js')).listRuns(shell, flags)));

  addAskFlags(runs.command('show'))
    .description('show everything known of a run, its settings and its result')
    .argument(...runArgument)
    .action(
      acting(async (run: string, flags: object) => (await import('./show.js')).showRun(shell, run, flags)),
    );

  addAskFlags(runs.command('logs'))
    .description(
      'print the log of a run; with --follow it ends with the outcome of the run, as rollcall run does',
    )
    .argument(...runArgument)
    .option('--follow', 'go on with what comes until the run is over, or Ctrl-C')
    .option('--after <N>', 'only lines after the one of this number')
    .option('--limit <N>', 'at most so many lines')
    .action(
      acting(async (run: string, flags: object) => (await import('./logs.js')).printLogs(shell, run, flags)),
    );

  addAskFlags(runs.command('stop'))
    .description('stop a run')
    .argument(...runArgument)
    .action(
      acting(async (run: string, flags: object) => (await import('./show.js')).stopRun(shell, run, flags)),
    );
}
