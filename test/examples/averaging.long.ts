/** The examples whose halves are both in Python, run by the command as their readers would, on two real nodes. */
import t from 'tap';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatOpensshPrivate } from '../../src/identity/openssh.js';
import { root } from '../../scripts/running.js';
import { run } from '../cli/fixtures/shell.js';
import { prepareOperator } from '../harness/operator.js';
import { skipWithoutPython } from '../harness/python-half.js';
import { openRunSite } from '../harness/run-site.js';

interface Result {
  readonly weights: readonly number[];
  readonly rounds: readonly { readonly round: number; readonly loss: number }[];
}

void t.test(
  'rollcall run averaging-python --stream fits one line on two nodes, and hello-python greets them',
  {
    skip: skipWithoutPython,
  },
  async t => {
    const site = await openRunSite(t);
    await site.startTrusting('berlin');
    await site.startTrusting('tokyo');
    const appKey = join(site.folder, 'author');
    await writeFile(appKey, formatOpensshPrivate(site.author, 'author'), { mode: 0o600 });
    const tokenFile = join(site.folder, 'token');
    await writeFile(tokenFile, await prepareOperator(join(site.folder, 'data')), { mode: 0o600 });
    const flags = [
      ...['--control', site.link.control, '--root-certificates', join(site.folder, 'ca.crt')],
      ...['--token-file', tokenFile],
    ];
    const app = join(root, 'examples/averaging-python');
    const said = await run([
      ...['run', app, '--app-key', appKey, '--stream', '--set', 'min-nodes=2', '--set', 'rounds=4'],
      ...flags,
    ]);
    t.equal(said.code, 0, said.stderr);
    t.match(said.stdout, /averaging with (numpy|lists), waiting for 2 nodes/);
    t.match(said.stdout, /round 4\/4 {2}loss 0\.00\d\d {2}\(2 nodes\)/);
    t.match(said.stdout, /round 4: loss 0\.00\d\d before, 0\.00\d\d after/, 'nodes are heard, too');
    const shown = await run(['runs', 'show', 'latest', '--json', ...flags]);
    const { result } = JSON.parse(shown.stdout) as { result: Result };
    t.equal(result.rounds.length, 4);
    t.ok((result.rounds[0]?.loss ?? 0) > 1 && (result.rounds[3]?.loss ?? 1) < 0.01, 'it learns');
    for (const [at, weight] of [2, -1, 0.5].entries())
      t.ok(Math.abs((result.weights[at] ?? NaN) - weight) < 0.05, `weight ${at}: ${result.weights[at]}`);

    const failed = await run(['run', app, '--app-key', appKey, '--stream', '--set', 'examples=0', ...flags]);
    t.equal(failed.code, 1, 'a run that fails ends the command with 1');
    t.match(failed.stdout + failed.stderr, /round 1: no node could train/);

    const greeted = await run([
      ...[
        'run',
        join(root, 'examples/hello-python'),
        '--app-key',
        appKey,
        '--stream',
        '--set',
        'greeting=hi',
      ],
      ...flags,
    ]);
    t.equal(greeted.code, 0, greeted.stderr);
    t.equal(greeted.stdout.match(/hi from node \d+, which has no config/g)?.length, 2);
  },
);
