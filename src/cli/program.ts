/**
 * The tree of commands after `rollcall`, and how every command ends: one exit code, and mistakes as `error:` and `hint:`
 * lines. Nothing heavy is imported here, so that a command starts as fast as what it needs.
 */
import { Command, CommanderError } from 'commander';
import { isRollcallError, RollcallError } from '../base/errors.js';
import { version } from '../base/version.js';
import { addAccessCommands } from './access/command.js';
import { addAppCommand } from './app-command.js';
import { addAuditCommands } from './audit-command.js';
import type { DaemonName } from './daemon.js';
import { exitCodes, reportFailure, usageError } from './failure.js';
import { addFlowerAnswers } from './flower-answers.js';
import {
  addConnectionFlag,
  addControlFlags,
  addProfileFlags,
  addNodesCommand,
  type Acting,
} from './nodes/command.js';
import { addRunCommands } from './runs/command.js';
import { defaultColumns, tableStyleOf, type Shell } from './shell.js';
import { formatHelpItem, groupHelpItems, wrapHelp } from './wrap.js';

const examples = `
Examples:
  $ rollcall link --ssl-ca-certfile certificates/ca.crt --ssl-certfile certificates/server.pem \\
      --ssl-keyfile certificates/server.key
  $ rollcall login --setup --root-certificates certificates/ca.crt
  $ rollcall nodes register keys/client_credentials_1.pub
  $ rollcall node --link 127.0.0.1:9092 --root-certificates certificates/ca.crt \\
      --auth-private-key keys/client_credentials_1
  $ rollcall nodes list
  $ rollcall run examples/hello --stream

Exit codes: 0 done, 1 refused, or the run failed, 2 usage, 3 cannot reach the link, 4 this node was revoked (rollcall
node), 5 the run was stopped (rollcall run --stream).`;

/** Runs what was typed after `rollcall`; gives the exit code and never throws. */
export async function runCommand(typed: readonly string[], shell: Shell): Promise<number> {
  const words = meantWords(typed);
  let code: number = exitCodes.done;
  const acting: Acting =
    act =>
    async (...given) => {
      code = await act(...given);
    };
  const program = createProgram(shell, acting, words[0]);
  try {
    await program.parseAsync([...words], { from: 'user' });
    return code;
  } catch (error) {
    return error instanceof CommanderError
      ? endOfParsing(shell, error, placeOf(program, words), roomMeant(program, words))
      : reportFailure(shell, meaningRoom(error, roomMeant(program, words)));
  }
}

/** Accepts the forms of other programs: `help nodes`, `version`, `--json nodes list`, `ls`. */
function meantWords(typed: readonly string[]): readonly string[] {
  const at = typed.findIndex(word => word !== '--json');
  const [first = '', ...rest] = typed.slice(Math.max(at, 0));
  // An option stands after the command that it belongs to.
  if (at > 0) return meantWords([first, ...rest, '--json']);
  if (first === 'help') return [...rest, '--help'];
  if (first === 'version' && rest.length === 0) return ['--version'];
  if (['status', 'list', 'ls'].includes(first)) return ['nodes', 'list', ...rest];
  const [second = ''] = rest;
  if (second === '--json') return [first, ...rest.slice(1), '--json'];
  // The word after run is a folder.
  if (first === 'run') return typed;
  if (second === 'help') return [first, ...rest.slice(1), '--help'];
  if (second === 'ls') return [first, 'list', ...rest.slice(1)];
  return typed;
}

/** The command that was meant, as far as it can be told: `rollcall nodes list`. */
function placeOf(program: Command, words: readonly string[]): string {
  const [first, second] = words;
  const room = program.commands.find(command => command.name() === first);
  const leaf = room?.commands.find(command => command.name() === second || command.alias() === second);
  return ['rollcall', room?.name(), leaf?.name()].filter(name => name !== undefined).join(' ');
}

/** `rollcall nodes list`, where `node list` was typed; undefined when no room has a name in the plural of this. */
function roomMeant(program: Command, [first = '', second = '']: readonly string[]): string | undefined {
  const room = program.commands.find(command => command.name() === `${first}s`);
  if (!room) return undefined;
  const isClashing = program.commands.some(command => command.name() === first);
  const leaf = room.commands.find(command => command.name() === second || command.alias() === second);
  if (isClashing && !leaf) return undefined;
  return ['rollcall', room.name(), ...(/^[a-z][a-z-]*$/.test(second) ? [second] : [])].join(' ');
}

/** `rollcall run list` finds no folder of that name. */
function meaningRoom(error: unknown, meant: string | undefined): unknown {
  if (meant === undefined || !isRollcallError(error, 'FILE_UNREADABLE')) return error;
  return new RollcallError(error.code, error.message, { hint: `did you mean ${meant}?`, cause: error });
}

/** In a list of commands: the name, its other name, and what must follow. */
function commandTerm(command: Command): string {
  const needed = command.registeredArguments
    .filter(argument => argument.required)
    .map(argument => `<${argument.name()}${argument.variadic ? '...' : ''}>`);
  return [[command.name(), ...command.aliases()].join('|'), ...needed].join(' ');
}

/** Help and version end the parsing as well; all else is a mistake in what was typed. */
function endOfParsing(shell: Shell, error: CommanderError, place: string, meant: string | undefined): number {
  if (error.exitCode === 0 || error.code === 'commander.help') return exitCodes.done;
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const near = /^\(Did you mean (.+)\?\)$/.exec(suggestion ?? '');
  const guess = meant ?? near?.[1];
  const hint = guess === undefined ? `${place} --help shows what there is` : `did you mean ${guess}?`;
  return reportFailure(shell, usageError(first, hint));
}

function createProgram(shell: Shell, acting: Acting, typed?: string): Command {
  const width = tableStyleOf(shell).maxWidth ?? defaultColumns;
  const print = (text: string) => void shell.stdout.write(wrapHelp(text, width));
  const program = new Command('rollcall')
    .description('Register nodes by their keys, see who is there, cut one off at once.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .addHelpText('after', examples)
    .configureHelp({ subcommandTerm: commandTerm, formatItem: formatHelpItem, groupItems: groupHelpItems })
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: print,
      // The help of a command that was typed without its subcommand.
      writeErr: print,
      getOutHelpWidth: () => width,
      getErrHelpWidth: () => width,
      outputError: () => undefined,
    });
  addDaemon(program, shell, acting, 'link', 'run the link: the server that nodes enroll with and connect to');
  addDaemon(program, shell, acting, 'node', 'run a node agent: enroll by its key and hold the link');
  addDaemon(
    program,
    shell,
    acting,
    'app-host',
    'run an app host: apps of a link or an agent, as another user',
  );
  addMaker(
    program,
    shell,
    acting,
    'certs',
    'make a certificate authority and a server certificate, for development',
  );
  addMaker(program, shell, acting, 'keygen', 'make key pairs for nodes, for development');
  addLoginCommands(program, shell, acting);
  addNodesCommand(program, shell, acting);
  addRunCommands(program, shell, acting);
  addAuditCommands(program, shell, acting, async (...given) =>
    (await import('./audit-control.js')).askAudit(...given),
  );
  addAccessCommands(program, shell, acting, typed);
  addAppCommand(program, shell, acting);
  addProfileCommand(program, shell, acting);
  addFlowerAnswers(program);
  return program;
}

/** Its flags are known only to the module it starts, so all that follows is handed over as it is. */
function addDaemon(program: Command, shell: Shell, acting: Acting, name: DaemonName, summary: string): void {
  program
    .command(name)
    .description(summary)
    .usage('[options]')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .argument('[flags...]')
    .action(
      acting(async (flags: string[]) => {
        return (await import('./daemon.js')).runDaemon(shell, program, name, flags);
      }),
    );
}

/** Its flags and help are those of the module that does the work. */
function addMaker(
  program: Command,
  shell: Shell,
  acting: Acting,
  name: 'certs' | 'keygen',
  summary: string,
): void {
  const width = tableStyleOf(shell).maxWidth ?? defaultColumns;
  const output = {
    print: (text: string) =>
      void shell.stdout.write(text.startsWith('usage:') ? wrapHelp(text, width) : text),
    complain: (text: string) => void shell.stderr.write(text),
  };
  program
    .command(name)
    .description(summary)
    .usage('[options]')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .argument('[words...]')
    .action(
      acting(async (words: string[]) =>
        name === 'certs'
          ? (await import('./certs.js')).generateCertificates(words, output)
          : (await import('./keygen.js')).generateKeys(words, output),
      ),
    );
}

const json = ['--json', 'print JSON, for machines'] as const;

function addLoginCommands(program: Command, shell: Shell, acting: Acting): void {
  addConnectionFlag(
    addControlFlags(program.command('login')),
    '--profile <NAME>',
    'keep it under this name (default: "default")',
  )
    .description('log in to a link, and save the login and the address in a profile')
    .option('--user <NAME>', 'who logs in; asked for unless given')
    .option('--tenant <NAME>', 'the tenant the user belongs to')
    .option('--password-file <FILE>', 'file with the password, mode 0600 (env: ROLLCALL_PASSWORD_FILE)')
    .option('--code <CODE>', 'code of the second factor, or a recovery code')
    .option('--setup', "make the first admin, by the setup code in the link's data folder")
    .option('--setup-code-file <FILE>', 'file with the setup code, mode 0600')
    .option(...json)
    .action(acting(async (flags: object) => (await import('./login-command.js')).login(shell, flags)));
  addProfileFlags(program.command('logout'))
    .description('end the login')
    .option(...json)
    .action(acting(async (flags: object) => (await import('./login-command.js')).logout(shell, flags)));
  addProfileFlags(program.command('whoami'))
    .description('show your identity and permissions at the link')
    .option(...json)
    .action(acting(async (flags: object) => (await import('./login-command.js')).whoami(shell, flags)));
}

function addProfileCommand(program: Command, shell: Shell, acting: Acting): void {
  const profile = program.command('profile').description('save how to reach a link').helpCommand(false);
  addControlFlags(profile.command('save'))
    .description('save or change a profile; "default" is the one used without --profile')
    .argument('<name>')
    .option(...json)
    .action(
      acting(async (name: string, flags: object) => {
        return (await import('./profile-command.js')).saveProfile(shell, name, flags);
      }),
    );
  profile
    .command('list')
    .description('list the profiles')
    .option(...json)
    .action(
      acting(async (flags: object) => (await import('./profile-command.js')).listProfiles(shell, flags)),
    );
  profile
    .command('show')
    .description('show a profile')
    .argument('<name>')
    .option(...json)
    .action(
      acting(async (name: string, flags: object) => {
        return (await import('./profile-command.js')).showProfile(shell, name, flags);
      }),
    );
  profile
    .command('remove')
    .description('remove a profile and its login; the files it names stay')
    .argument('<name>')
    .option(...json)
    .action(
      acting(async (name: string, flags: object) => {
        return (await import('./profile-command.js')).removeProfile(shell, name, flags);
      }),
    );
}
