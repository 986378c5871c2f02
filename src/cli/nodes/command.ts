/** The tree of `rollcall nodes …`: what can be typed. What each does is imported when it is asked for. */
import { Option, type Command } from 'commander';
import { connectionGroup } from '../wrap.js';
import type { Shell } from '../shell.js';

/** Makes an action of something that gives an exit code. */
export type Acting = <A extends unknown[]>(
  act: (...words: A) => Promise<number>,
) => (...words: A) => Promise<void>;

/** Collects a flag that may be given more than once. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** The flags of every command that asks a link. */
export function addControlFlags(command: Command): Command {
  for (const [flags, description] of connectionFlags) addConnectionFlag(command, flags, description);
  return command;
}

/** Those, and what a command takes that shows what the link has answered. */
export function addAskFlags(command: Command): Command {
  return addProfileFlags(command).option('--json', 'print JSON, for machines');
}

export function addProfileFlags(command: Command): Command {
  return addConnectionFlag(
    addControlFlags(command),
    '--profile <NAME>',
    'use what was saved as NAME (default: the profile "default", env: ROLLCALL_PROFILE)',
  );
}

/** Apart from the others in the help, which every command would otherwise begin with. */
export function addConnectionFlag(command: Command, flags: string, description: string): Command {
  return command.addOption(new Option(flags, description).helpGroup(connectionGroup));
}

const connectionFlags: readonly (readonly [flags: string, description: string])[] = [
  ['--control <HOST:PORT>', 'control port of the link (default: 127.0.0.1:9093, env: ROLLCALL_CONTROL)'],
  [
    '--root-certificates <FILE>',
    'CA certificates that verify the link, PEM (env: ROLLCALL_ROOT_CERTIFICATES)',
  ],
  ['--token-file <FILE>', 'file with the token, mode 0600 (env: ROLLCALL_TOKEN_FILE)'],
  [
    '--proxy <URL>',
    'HTTP proxy to reach the link through: http:// or https://HOST:PORT, environment (HTTPS_PROXY and NO_PROXY), or none (env: ROLLCALL_PROXY)',
  ],
  [
    '--proxy-credentials-file <FILE>',
    'file with user:password for the proxy, mode 0600 (env: ROLLCALL_PROXY_CREDENTIALS_FILE)',
  ],
  [
    '--proxy-root-certificates <FILE>',
    'CA certificates of an https:// proxy, PEM (default: those that Node.js brings; env: ROLLCALL_PROXY_ROOT_CERTIFICATES)',
  ],
];

const examples = `
Examples:
  $ rollcall nodes register keys/client_credentials_1.pub --name press-3 --label site=hamburg
  $ rollcall nodes list --status online --wide
  $ rollcall nodes history press-3
  $ rollcall nodes revoke press-3 --comment "key on a lost laptop"`;

/** Adds `nodes` to the program. A NODE is an id, a name or a fingerprint; where nothing is cut off, how it begins is enough. */
export function addNodesCommand(program: Command, shell: Shell, acting: Acting): void {
  const nodes = program
    .command('nodes')
    .description('register, list, show, revoke and watch nodes')
    .helpCommand(false)
    .addHelpText('after', examples);

  addAskFlags(nodes.command('register'))
    .description('register nodes by their public keys')
    .argument('<file...>', 'public key files: OpenSSH or PEM, P-256 or P-384')
    .option('--name <NAME>', 'a unique name for the node; only with one file')
    .option('--label <NAME=VALUE>', 'a label; may be given more than once', collect)
    .option(
      '--again',
      'register a revoked key again, as a new node, with the name it had unless --name is given',
    )
    .action(
      acting(async (files: string[], flags: object) => {
        return (await import('./register.js')).registerNodes(shell, files, flags);
      }),
    );

  addAskFlags(nodes.command('list'))
    .description('list nodes with their status, but for revoked ones')
    .argument('[federation...]')
    .usage('[options]')
    .option('--all', 'revoked nodes too')
    .option('--status <STATUS>', 'only nodes with this status; may be given more than once', collect)
    .option('--label <NAME=VALUE>', 'only nodes with this label; may be given more than once', collect)
    .option('--text <TEXT>', 'only nodes with this in their name, id, fingerprint or labels')
    .option('--limit <N>', 'at most so many')
    .option('--wide', 'with reason, address and labels')
    .action(
      acting(async (words: string[], flags: object) => {
        return (await import('./list.js')).listNodes(shell, words, flags);
      }),
    );

  addAskFlags(nodes.command('show'))
    .description('show everything known of a node')
    .argument('<node>', 'id, name or fingerprint, or how one of them begins')
    .action(
      acting(async (node: string, flags: object) => {
        return (await import('./show.js')).showNode(shell, node, flags);
      }),
    );

  addAskFlags(nodes.command('revoke').alias('unregister'))
    .description('revoke nodes and cut them off at once')
    .argument('<node...>', 'ids, names or fingerprints, whole')
    .option('--comment <TEXT>', 'why; kept in the history')
    .action(
      acting(async (names: string[], flags: object) => {
        return (await import('./revoke.js')).revokeNodes(shell, names, flags);
      }),
    );

  addAskFlags(nodes.command('delete'))
    .description('revoke nodes and forget them; the audit log keeps them, their keys may be registered anew')
    .argument('<node...>', 'ids, names or fingerprints')
    .action(
      acting(async (names: string[], flags: object) => {
        return (await import('./delete.js')).deleteNodes(shell, names, flags);
      }),
    );

  addAskFlags(nodes.command('history'))
    .description("show a node's statuses, newest first")
    .argument('<node>', 'id, name or fingerprint, or how one of them begins')
    .option('--limit <N>', 'at most so many')
    .action(
      acting(async (node: string, flags: object) => {
        return (await import('./show.js')).showHistory(shell, node, flags);
      }),
    );

  addAskFlags(nodes.command('config'))
    .description('write a configuration file that a node starts from, with tokens for programs beside it')
    .argument('<node>', 'id, name or fingerprint, or how one of them begins')
    .option('--output <FILE>', 'where to (default: node.yaml)')
    .option('--private-key <PATH>', "where the node's private key is on its machine; it stays there")
    .option('--state-dir <PATH>', 'where the node keeps session key and certificate')
    .option('--force', 'replace the file if it is there')
    .action(
      acting(async (node: string, flags: object) => {
        return (await import('./config.js')).writeNodeConfig(shell, node, flags);
      }),
    );

  addAskFlags(nodes.command('watch'))
    .description('print every change as it happens, until Ctrl-C')
    .option('--snapshot', 'print every node once first')
    .action(
      acting(async (flags: object) => {
        return (await import('./watch.js')).watchNodes(shell, flags);
      }),
    );
}
