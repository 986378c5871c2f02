/** Answers to the commands of Flower, for people who come from there. */
import type { Command } from 'commander';
import { usageError } from './failure.js';

/** The commands of Flower, with the command of Rollcall to use instead: by command, and by the word after it. */
const flowerAnswers: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  supernode: {
    register: 'use rollcall nodes register KEY…',
    list: 'use rollcall nodes list',
    ls: 'use rollcall nodes list',
    unregister: 'use rollcall nodes revoke NODE…',
    '': 'use rollcall node to run one, and rollcall nodes register, list or revoke',
  },
  'flower-supernode': { '': 'use rollcall node' },
  superlink: { '': 'use rollcall link' },
  'flower-superlink': { '': 'use rollcall link' },
  superexec: { '': 'use rollcall app-host' },
  'flower-superexec': { '': 'use rollcall app-host' },
  federation: { '': 'a link holds one fleet for each tenant: rollcall nodes list, rollcall tenants list' },
  new: { '': 'an app is a folder: copy examples/hello; docs/apps.md says what is in it' },
  build: { '': 'use rollcall app pack DIR; rollcall run DIR packs by itself' },
  install: {
    '': 'nothing is installed on nodes: rollcall run DIR sends the app to those that trust its signer',
  },
  log: { '': 'use rollcall runs logs RUN' },
  stop: { '': 'use rollcall runs stop RUN' },
};

/** Adds hidden commands, each of which fails with the hint of what to use instead. */
export function addFlowerAnswers(program: Command): void {
  for (const [name, answers] of Object.entries(flowerAnswers)) {
    program
      .command(name, { hidden: true })
      .helpOption(false)
      .allowUnknownOption()
      .passThroughOptions()
      .argument('[words...]')
      .action(([word = '']: string[]) => {
        throw usageError(`rollcall has no "${name}" command`, answers[word] ?? answers['']);
      });
  }
}
