/** `rollcall app`: what authors of apps do before a run. What can be typed; what it does is imported when it is wanted. */
import type { Command } from 'commander';
import type { Acting } from './nodes/command.js';
import type { Shell } from './shell.js';

export function addAppCommand(program: Command, shell: Shell, acting: Acting): void {
  const app = program.command('app').description('make an app key, and check an app').helpCommand(false);
  app
    .command('keygen')
    .description('make the key that signs apps, and its .pub for the nodes that trust it')
    .option('--output <FILE>', "where to write it (default: app-key in the user's config folder)")
    .option('--json', 'print JSON, for machines')
    .action(acting(async (flags: object) => (await import('./app-keygen.js')).makeAppKey(shell, flags)));
  app
    .command('pack')
    .description('check an app, and print the digest that names it')
    .argument('<dir>', 'the folder with app.json')
    .option('--files', 'list the files as well')
    .option('--json', 'print JSON, for machines')
    .action(
      acting(async (folder: string, flags: object) =>
        (await import('./app-pack.js')).showApp(shell, folder, flags),
      ),
    );
}
