/** The tree of `rollcall audit …`: what can be typed. What each does is imported when it is asked for. */
import type { Command } from 'commander';
import type { AskAudit } from './audit-control.js';
import { addProfileFlags, type Acting } from './nodes/command.js';
import type { Shell } from './shell.js';

const json = ['--json', 'print JSON, for machines'] as const;

const examples = `
Examples:
  $ rollcall audit list --type user. --since 24h
  $ rollcall audit checkpoint kept.json
  $ rollcall audit export log.jsonl
  $ rollcall audit verify log.jsonl --checkpoint kept.json

Keep the checkpoint where the link cannot write: it is what shows that the log was cut or written anew.`;

/** Adds `audit` to the program. `ask` reaches the link; verify needs none. */
export function addAuditCommands(program: Command, shell: Shell, acting: Acting, ask: AskAudit): void {
  const audit = program
    .command('audit')
    .description('show, export and verify the audit log')
    .helpCommand(false)
    .addHelpText('after', examples);

  addProfileFlags(audit.command('list'))
    .description('list events, newest first')
    .option('--type <PREFIX>', 'only events whose type begins so, such as node. or node.revoked')
    .option('--subject <TEXT>', 'only events about this')
    .option('--by <WHO>', 'only what WHO did: a name, an id, or user:NAME, service:NAME, node:NAME, link')
    .option('--since <WHEN>', 'not before WHEN: 2026-01-15, 2026-01-15T12:00:00Z, or 2h for two hours ago')
    .option('--until <WHEN>', 'before WHEN')
    .option('--limit <N>', 'at most so many (default: 50)')
    .option('--oldest-first', 'from the first entry on')
    .option('--wide', 'with address, request id and detail')
    .option(...json)
    .action(acting(async (flags: object) => (await import('./audit-list.js')).listAudit(shell, flags, ask)));

  addProfileFlags(audit.command('export'))
    .description('write the whole log to a file that can be checked anywhere')
    .argument('<file>', 'must not be there yet')
    .option(...json)
    .action(
      acting(async (file: string, flags: object) => {
        return (await import('./audit-files.js')).exportAudit(shell, file, flags, ask);
      }),
    );

  audit
    .command('verify')
    .description('check an exported log and name the first broken entry; asks no link')
    .argument('<file>', 'as rollcall audit export wrote it')
    .option('--checkpoint <FILE>', 'a checkpoint that was kept elsewhere')
    .option('--public-key <FILE>', 'the public key of the audit log, kept elsewhere')
    .option(...json)
    .action(
      acting(async (file: string, flags: object) => {
        return (await import('./audit-verify.js')).verifyAudit(shell, file, flags);
      }),
    );

  addProfileFlags(audit.command('checkpoint'))
    .description('get a signed checkpoint of the newest entry, and keep it')
    .argument('[file]', 'where to keep it; one that is there must be of the same log, and older')
    .option(...json)
    .action(
      acting(async (file: string | undefined, flags: object) => {
        return (await import('./audit-checkpoint.js')).keepCheckpoint(shell, file, flags, ask);
      }),
    );
}
