/**
 * The whole story in one command, with real processes on this machine: `npm run digits -- --nodes 3 --set rounds=10
 * --plot accuracy.svg`. Needs nothing and leaves nothing but the picture.
 */
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { perform, type Stage } from '../../scripts/stage.js';
import { as } from '../../src/base/settings.js';
import { readArgument, runAsScript } from './as-script.js';
import { drawAccuracy, readRounds } from './plot.js';
import { splitDigits } from './split.js';

const usage = `usage: npm run digits -- [--nodes N] [--set NAME=VALUE …] [--plot FILE]

Starts a link and nodes, each with its part of the digits, and trains one network on all of them without moving a digit.

  --nodes N         how many nodes, 1 to 10 (default 2)
  --set NAME=VALUE  a setting of the run, such as rounds=10; examples/digits/app/app.json has them all
  --plot FILE       draws the accuracy by round as an SVG
  --help            show this
`;

interface Wishes {
  readonly nodes: number;
  readonly settings: readonly string[];
  readonly plot: string | undefined;
}

/** On one machine; elsewhere app hosts run under their own user. */
const isolation = ['--isolation', 'subprocess'];

async function tell(stage: Stage, { nodes, settings, plot }: Wishes): Promise<void> {
  const { inFolder, heading, script, rollcall } = stage;
  heading(
    'Keys and data',
    `A key for each node and for the author of the app; the digits in parts: ${nodes}.`,
  );
  await script('generate-certs', '--out', inFolder('certificates'));
  await script('generate-keys', String(nodes), '--out', inFolder('keys'));
  await rollcall('app', 'keygen');
  const parts = await splitDigits({ parts: nodes, out: inFolder('datasets') });

  heading('The link', 'It knows the public keys of the nodes, and nothing of their data.');
  const link = await stage.startLink({ more: isolation });
  await stage.logIn(link);
  const names = parts.map((_, at) => `node-${at + 1}`);
  for (const [at, name] of names.entries())
    await rollcall('nodes', 'register', inFolder(`keys/client_credentials_${at + 1}.pub`), '--name', name);

  heading('The nodes', 'Each is told where its digits are, and whose apps it may run.');
  for (const [at, { train, holdout, nodeConfig }] of parts.entries()) {
    const name = names[at] ?? '';
    stage.whisper(`${name}: ${train} digits to learn from, ${holdout} held out`);
    const more = [...isolation, '--trust-app-signer', inFolder('config/app-key.pub')];
    stage.startNode(link, { name, key: `keys/client_credentials_${at + 1}`, nodeConfig, more });
  }
  for (const name of names) await stage.waitFor(name, 'online');
  await rollcall('nodes', 'list', '--wide');

  heading('The run', 'Weights travel, digits do not.');
  const flags = [`min-nodes=${nodes}`, ...settings].flatMap(setting => ['--set', setting]);
  await rollcall('run', 'examples/digits/app', '--stream', ...flags);
  if (plot === undefined) return;
  await writeFile(plot, drawAccuracy(readRounds(await stage.ask('runs', 'show', 'latest'))));
  stage.say(`wrote ${plot}`);
}

function readWishes(argv: readonly string[]): Wishes {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      nodes: { type: 'string', default: '2' },
      set: { type: 'string', multiple: true, default: [] },
      plot: { type: 'string' },
    },
  });
  return {
    nodes: readArgument('--nodes', as.integer(1, 10), values.nodes),
    settings: values.set,
    plot: values.plot === undefined ? undefined : resolve(values.plot),
  };
}

await runAsScript(import.meta.url, usage, async argv => {
  const wishes = readWishes(argv);
  await perform({ title: 'run', limitMs: 10 * 60_000 }, stage => tell(stage, wishes));
});
