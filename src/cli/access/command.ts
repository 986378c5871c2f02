/**
 * The trees of `rollcall users|roles|services|tokens|keys|tenants …`: what can be typed. What each does is imported
 * when it is asked for.
 */
import type { Command } from 'commander';
import { addAskFlags, collect, type Acting } from '../nodes/command.js';
import type { Shell } from '../shell.js';
import type { PasswordFlags, SecondFactorFlags } from './account.js';
import type { AskFlags } from './with-link.js';
import type { RotateFlags } from './keys.js';
import type { MatrixFlags } from './roles.js';
import type { NewServiceFlags, ServiceChangeFlags } from './services.js';
import type { NewTenantFlags } from './tenants.js';
import type { NewTokenFlags, RevokeFlags } from './tokens.js';
import type { NewUserFlags, UserChangeFlags } from './users.js';

const more = 'may be given more than once';
const role = ['--role <ROLE>', `a role; ${more}`, collect] as const;
const passwordFile = ['--password-file <FILE>', 'file with the password, mode 0600'] as const;

type Fill = (room: Command, shell: Shell, acting: Acting) => void;

const rooms: Readonly<Record<string, readonly [summary: string, fill: Fill]>> = {
  users: ['create, change, delete and list users; set passwords and second factors', addUsers],
  roles: ['show and define what roles allow', addRoles],
  services: ['register, change, delete and list programs that ask for tokens in their own name', addServices],
  tokens: ['make, list and revoke API tokens, for programs that act for you', addTokens],
  keys: ['list and rotate the keys that sign tokens', addKeys],
  tenants: ['create, delete and list tenants, which know nothing of one another', addTenants],
};

/** Adds everything about who may ask; all commands only of the room that was typed, for the others need them not. */
export function addAccessCommands(program: Command, shell: Shell, acting: Acting, typed?: string): void {
  for (const [name, [summary, fill]] of Object.entries(rooms)) {
    const room = program.command(name).description(summary).helpCommand(false);
    if (name === typed) fill(room, shell, acting);
  }
}

function addUsers(users: Command, shell: Shell, acting: Acting): void {
  addAskFlags(users.command('list'))
    .description('list the users of the tenant')
    .action(acting(async (flags: AskFlags) => (await import('./users.js')).listUsers(shell, flags)));
  addAskFlags(users.command('create'))
    .description('create a user')
    .argument('<name>')
    .requiredOption(...role)
    .option(...passwordFile)
    .action(
      acting(async (name: string, flags: NewUserFlags) => {
        return (await import('./users.js')).createUser(shell, name, flags);
      }),
    );
  addAskFlags(users.command('change'))
    .description('change the roles of a user, or disable the account')
    .argument('<name>')
    .option('--role <ROLE>', `a role, in place of those before; ${more}; "" for none`, collect)
    .option('--enable', 'let the user log in again')
    .option('--disable', 'keep the user out, at once')
    .option('--end-sessions', 'end every login and API token of the user')
    .option('--remove-second-factor', 'for who lost the device')
    .action(
      acting(async (name: string, flags: UserChangeFlags) => {
        return (await import('./users.js')).changeUser(shell, name, flags);
      }),
    );
  addAskFlags(users.command('delete'))
    .description('delete a user and end all their logins and tokens; the audit log keeps what they did')
    .argument('<name>', 'name or id')
    .action(
      acting(async (name: string, flags: AskFlags) => {
        return (await import('./users.js')).deleteUser(shell, name, flags);
      }),
    );
  addAskFlags(users.command('password'))
    .description('change the own password, or set that of another user')
    .argument('[name]', 'whose; the own unless given')
    .option('--password-file <FILE>', 'file with the new password, mode 0600')
    .option('--old-password-file <FILE>', 'file with the own password as it is, mode 0600')
    .action(
      acting(async (name: string | undefined, flags: PasswordFlags) => {
        return (await import('./account.js')).changePassword(shell, name, flags);
      }),
    );
  addAskFlags(users.command('second-factor'))
    .description('put a second factor on the own account, or take it off')
    .argument('<on|off>')
    .option(...passwordFile)
    .action(
      acting(async (word: string, flags: SecondFactorFlags) => {
        return (await import('./account.js')).setSecondFactor(shell, word, flags);
      }),
    );
}

function addRoles(roles: Command, shell: Shell, acting: Acting): void {
  addAskFlags(roles.command('list').alias('matrix'))
    .description('list the roles, with the permissions that each holds')
    .option('--wide', 'with what each permission allows to do')
    .action(acting(async (flags: MatrixFlags) => (await import('./roles.js')).showMatrix(shell, flags)));
  addAskFlags(roles.command('define'))
    .description('define a role, or change one')
    .argument('<name>')
    .argument('<permission...>', 'as rollcall roles list shows them')
    .action(
      acting(async (name: string, permissions: string[], flags: AskFlags) => {
        return (await import('./roles.js')).defineRole(shell, name, permissions, flags);
      }),
    );
  addAskFlags(roles.command('remove'))
    .description('remove a role that was defined')
    .argument('<name>')
    .action(
      acting(async (name: string, flags: AskFlags) => {
        return (await import('./roles.js')).removeRole(shell, name, flags);
      }),
    );
}

/** Each list is taken as it is given: it replaces the one before. */
function addServiceFlags(command: Command): Command {
  return addAskFlags(command)
    .option('--role <ROLE>', `what it may do at the link; ${more}`, collect)
    .option('--audience <AUDIENCE>', `whom it may ask tokens for; ${more}`, collect)
    .option('--scope <SCOPE>', `what it may ask for there; ${more}`, collect)
    .option('--address <NET>', `where it may ask from, such as 10.0.0.0/8; ${more}`, collect)
    .option('--token-lifetime <DURATION>', 'how long its tokens last: 1m to 1h')
    .option('--public-key <FILE>', `proves itself with this key (private_key_jwt); ${more}`, collect)
    .option('--certificate <FILE>', `proves itself with this certificate; ${more}`, collect);
}

function addServices(services: Command, shell: Shell, acting: Acting): void {
  addAskFlags(services.command('list'))
    .description('list the services of the tenant')
    .action(acting(async (flags: AskFlags) => (await import('./services.js')).listServices(shell, flags)));
  addServiceFlags(services.command('create'))
    .description('register a service')
    .argument('<name>')
    .option('--secret', 'make a secret for it, and print it this once')
    .action(
      acting(async (name: string, flags: NewServiceFlags) => {
        return (await import('./services.js')).createService(shell, name, flags);
      }),
    );
  addServiceFlags(services.command('change'))
    .description('change a service; a list that is given replaces the one before, "" empties it')
    .argument('<name>', 'name or client_id')
    .option('--enable', 'accept it again')
    .option('--disable', 'refuse it and its tokens at the link at once')
    .option('--end-tokens', 'refuse the tokens that it has so far')
    .action(
      acting(async (name: string, flags: ServiceChangeFlags) => {
        return (await import('./services.js')).changeService(shell, name, flags);
      }),
    );
  addAskFlags(services.command('delete'))
    .description('delete a service and end its tokens; the audit log keeps what it did')
    .argument('<name>', 'name or client_id')
    .action(
      acting(async (name: string, flags: AskFlags) => {
        return (await import('./services.js')).deleteService(shell, name, flags);
      }),
    );
  addAskFlags(services.command('secret'))
    .description('make a new secret and print it this once; the one before still works')
    .argument('<name>', 'name or client_id')
    .action(
      acting(async (name: string, flags: AskFlags) => {
        return (await import('./services.js')).renewSecret(shell, name, flags);
      }),
    );
}

function addTokens(tokens: Command, shell: Shell, acting: Acting): void {
  addAskFlags(tokens.command('create'))
    .description('make an API token; prints it, or writes it to a file')
    .argument('<name>', 'to know it by')
    .requiredOption(...role)
    .requiredOption('--ttl <DURATION>', 'how long it lasts: 1m to 366d')
    .option('--user <USER>', 'make it for this user, who sees it in their list; needs users:manage')
    .option('--output <FILE>', 'write it to this file, mode 0600; must not be there yet')
    .action(
      acting(async (name: string, flags: NewTokenFlags) => {
        return (await import('./tokens.js')).createToken(shell, name, flags);
      }),
    );
  addAskFlags(tokens.command('list'))
    .description("list your API tokens (all of the tenant's with users:manage)")
    .action(acting(async (flags: AskFlags) => (await import('./tokens.js')).listTokens(shell, flags)));
  addAskFlags(tokens.command('revoke'))
    .description('end an API token, or everything that began in a span of time, at once')
    .argument('[token]', 'its ID, or its name when no other has it')
    .option(
      '--before <WHEN>',
      'all tokens and logins of the tenant that began before WHEN, and keep later ones: now, 2h, 2026-01-15T12:00:00Z',
    )
    .option(
      '--since <WHEN>',
      'those that began since WHEN, and keep earlier ones; with --before, those between the two',
    )
    .action(
      acting(async (token: string | undefined, flags: RevokeFlags) => {
        return (await import('./tokens.js')).revokeTokens(shell, token, flags);
      }),
    );
}

function addKeys(keys: Command, shell: Shell, acting: Acting): void {
  addAskFlags(keys.command('list'))
    .description('list the keys, the newest first')
    .action(acting(async (flags: AskFlags) => (await import('./keys.js')).listKeys(shell, flags)));
  addAskFlags(keys.command('rotate'))
    .description(
      'sign with the next key, at once or as soon as it has been published for an hour; the old one verifies until its last token has ended',
    )
    .option('--audience <AUDIENCE>', 'only the key that signs for it')
    .option(
      '--now',
      'do not wait for the hour: verifiers that have not fetched the key yet refuse tokens for up to 15 minutes',
    )
    .option(
      '--drop-old',
      'trust no old key any more: ends every token signed with one; the new key signs at once',
    )
    .action(acting(async (flags: RotateFlags) => (await import('./keys.js')).rotateKeys(shell, flags)));
  addAskFlags(keys.command('secret'))
    .description('show what an audience with a secret (HS256) verifies tokens with')
    .argument('<audience>')
    .action(
      acting(async (audience: string, flags: AskFlags) => {
        return (await import('./keys.js')).showSecrets(shell, audience, flags);
      }),
    );
}

function addTenants(tenants: Command, shell: Shell, acting: Acting): void {
  addAskFlags(tenants.command('list'))
    .description('list the tenants')
    .action(acting(async (flags: AskFlags) => (await import('./tenants.js')).listTenants(shell, flags)));
  addAskFlags(tenants.command('create'))
    .description('create a tenant with its first admin')
    .argument('<name>')
    .requiredOption('--admin <USER>', 'name of its first admin')
    .option(...passwordFile)
    .action(
      acting(async (name: string, flags: NewTenantFlags) => {
        return (await import('./tenants.js')).createTenant(shell, name, flags);
      }),
    );
  addAskFlags(tenants.command('delete'))
    .description(
      'delete a tenant with its users, tokens, nodes and runs, for good; the audit log is kept, and the name stays taken',
    )
    .argument('<name>')
    .action(
      acting(async (name: string, flags: AskFlags) => {
        return (await import('./tenants.js')).deleteTenant(shell, name, flags);
      }),
    );
}
