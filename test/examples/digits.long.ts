/** The digits example: the network learns as calculus predicts, no digit is in two parts, and averaging works. */
import t, { type Test } from 'tap';
import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { parseDigits, readDataset, type Digits } from '../../examples/digits/app/dataset.js';
import {
  areWeights,
  averageWeights,
  copyWeights,
  createRandom,
  createWeights,
  evaluateWeights,
  findGradient,
  trainEpoch,
} from '../../examples/digits/app/network.js';
import nodeHalf from '../../examples/digits/app/node.js';
import serverHalf from '../../examples/digits/app/server.js';
import { drawAccuracy, readRounds, type Round } from '../../examples/digits/plot.js';
import { splitDigits } from '../../examples/digits/split.js';
import { packApp } from '../../src/app-package/app-package.js';
import { root } from '../../scripts/running.js';
import { makeFolder } from '../harness/folder.js';
import { runLocally, type LocalNode } from './local-grid.js';

const example = join(root, 'examples/digits');
const names = ['hiddenWeights', 'hiddenBias', 'outputWeights', 'outputBias'] as const;
const { config } = (await packApp(join(example, 'app'))).manifest;

async function readAll(): Promise<string> {
  return gunzipSync(await readFile(join(example, 'data/digits.csv.gz'))).toString('utf8');
}

async function readSome(count: number): Promise<Digits> {
  const lines = (await readAll()).split('\n').slice(0, count + 1);
  return parseDigits(lines.join('\n'), 'digits.csv');
}

void t.test('backpropagation gives the slopes of numeric differentiation', async t => {
  const digits = await readSome(7);
  const weights = createWeights(5, createRandom(3));
  const rows = [0, 2, 3, 6];
  const { loss, gradient } = findGradient(weights, digits, rows);
  const lossAt = (name: (typeof names)[number], at: number, value: number): number => {
    const moved = copyWeights(weights);
    moved[name].data[at] = value;
    return findGradient(moved, digits, rows).loss;
  };
  t.ok(loss > 1 && loss < 5, 'about the log of ten, before anything is learned');
  for (const name of names) {
    let widest = 0;
    weights[name].data.forEach((weight, at) => {
      // The divisor is the step after rounding to Float32.
      const [low, high] = [Math.fround(weight - 1e-3), Math.fround(weight + 1e-3)];
      const slope = (lossAt(name, at, high) - lossAt(name, at, low)) / (high - low);
      widest = Math.max(widest, Math.abs(slope - (gradient[name][at] ?? NaN)));
    });
    t.ok(widest < 1e-6, `${name}: off by at most ${widest}`);
  }
});

void t.test('the same seed gives the same weights, another seed gives other weights', async t => {
  const digits = await readSome(100);
  const trained = (seed: number) => {
    const random = createRandom(seed);
    const weights = createWeights(8, random);
    trainEpoch(weights, digits, { batchSize: 16, learningRate: 0.1, random });
    return weights;
  };
  t.same(trained(1), trained(1));
  t.notSame(trained(1), trained(2));
});

void t.test('the mean of weights counts each by its examples, and leaves its inputs unchanged', t => {
  const [one, other] = [createWeights(4, createRandom(1)), createWeights(4, createRandom(2))];
  const before = copyWeights(one);
  const mean = averageWeights([
    { weights: one, examples: 3 },
    { weights: other, examples: 1 },
  ]);
  const wanted = one.hiddenWeights.data.map(
    (weight, at) => 0.75 * weight + 0.25 * (other.hiddenWeights.data[at] ?? NaN),
  );
  mean.hiddenWeights.data.forEach((weight, at) => {
    if (Math.abs(weight - (wanted[at] ?? NaN)) > 1e-6) t.fail(`weight ${at}`);
  });
  t.same(one, before);
  t.ok(areWeights(mean, 4));
  t.notOk(areWeights(mean, 5));
  t.notOk(areWeights({ ...mean, outputBias: mean.hiddenBias }, 4));
  mean.outputBias.data[0] = NaN;
  t.notOk(areWeights(mean, 4), 'a weight that is no number would spoil the mean');
  t.throws(() => averageWeights([]), RangeError);
  t.end();
});

void t.test('every digit is in exactly one file of one part, and the same one each time', async t => {
  for (const parts of [1, 2, 3]) {
    const out = await makeFolder(t);
    const dealt = await splitDigits({ parts, out });
    t.equal(dealt.length, parts);
    const [header = '', ...rows] = (await readAll()).trimEnd().split('\n');
    const found: string[] = [];
    for (const { folder, train, holdout } of dealt) {
      for (const [file, count] of [
        ['train.csv', train],
        ['holdout.csv', holdout],
      ] as const) {
        const [own, ...lines] = (await readFile(join(folder, file), 'utf8')).trimEnd().split('\n');
        t.equal(own, header);
        t.equal(lines.length, count);
        found.push(...lines);
      }
      t.ok(Math.abs(holdout / (train + holdout) - 0.2) < 0.01, 'a fifth is held out');
    }
    t.same(found.sort(), rows.sort());
    const first = await readFile(join(out, 'part_1/train.csv'), 'utf8');
    await splitDigits({ parts, out });
    t.equal(await readFile(join(out, 'part_1/train.csv'), 'utf8'), first);
  }
  const out = await makeFolder(t);
  await splitDigits({ parts: 3, out });
  await t.rejects(
    splitDigits({ parts: 2, out }),
    /part_3 .* remove it first/,
    'no digit comes to be in two parts',
  );
});

void t.test('a missing dataset and an invalid dataset are reported with their path', async t => {
  const folder = await makeFolder(t);
  await t.rejects(readDataset({}), /--node-config 'dataset-path=/);
  await t.rejects(readDataset({ 'dataset-path': 7 }), /--node-config/);
  await t.rejects(readDataset({ 'dataset-path': folder }), /there is no .*train\.csv: .*digits:split/);
  await writeFile(join(folder, 'train.csv'), 'a,b\n1,2\n');
  await t.rejects(readDataset({ 'dataset-path': folder }), /does not begin with the columns/);
  const lines = (await readAll()).split('\n').slice(0, 3);
  t.equal(parseDigits(`${lines.join('\r\n')}\r\n`, 'x').labels.length, 2);
  t.throws(() => parseDigits(lines[0] ?? '', 'x'), /x holds no digits/);
  for (const odd of ['1,2', (lines[1] ?? '').replace(/,\d+$/, ',10'), (lines[1] ?? '').replace(/^0/, '17')])
    t.throws(() => parseDigits([...lines, odd].join('\n'), 'x'), /x:4 is no digit/);
});

void t.test('one machine with all digits learns to recognise them', async t => {
  const out = await makeFolder(t);
  const [part] = await splitDigits({ parts: 1, out });
  const { train, holdout } = await readDataset({ 'dataset-path': part?.folder ?? '' });
  const random = createRandom(1);
  const weights = createWeights(32, random);
  for (let epoch = 0; epoch < 15; epoch += 1)
    trainEpoch(weights, train, { batchSize: 16, learningRate: 0.1, random });
  const { accuracy, loss } = evaluateWeights(weights, holdout);
  t.ok(accuracy >= 0.9, `${(100 * accuracy).toFixed(1)} % of what it has not seen`);
  t.ok(loss < 0.4, String(loss));
});

async function makeNodes(t: Pick<Test, 'teardown'>, parts: number): Promise<LocalNode[]> {
  const dealt = await splitDigits({ parts, out: await makeFolder(t) });
  return dealt.map(({ folder }, at) => ({
    id: String(at + 1),
    name: ['berlin', 'tokyo', 'oslo'][at] ?? '',
    config: { 'dataset-path': folder },
  }));
}

void t.test('two nodes learn digits by averaging without sharing them', async t => {
  const nodes = await makeNodes(t, 2);
  const ran = await runLocally({ main: serverHalf.main, handlers: nodeHalf.handlers, nodes, config });
  const result = ran.result as unknown as { rounds: Round[]; accuracy: number };
  t.equal(result.rounds.length, 5);
  t.ok(result.accuracy >= 0.9, `${(100 * result.accuracy).toFixed(1)} %`);
  t.equal(result.accuracy, result.rounds.at(-1)?.accuracy);
  t.ok((result.rounds[0]?.loss ?? 0) > (result.rounds[4]?.loss ?? Infinity));
  const told = ran.log.filter(line => line.startsWith('info round'));
  t.equal(told.length, 5);
  t.match(told[4], /^info round 5\/5 {2}accuracy \d\d\.\d % {2}loss \d\.\d\d {2}\(2 nodes, \d+\.\d s\)$/);
  t.same(ran.states.get('1'), { rounds: 5 }, 'each node counts its rounds');
  t.equal(ran.progress.filter(fraction => fraction === 1).length, 10);
  t.comment(told.join('\n'));
  const again = await runLocally({ main: serverHalf.main, handlers: nodeHalf.handlers, nodes, config });
  t.same(again.result, result, 'the same seed gives the same rounds');
});

void t.test('a node that fails is left out, and without any node the run fails', async t => {
  const [one, two] = await makeNodes(t, 2);
  if (!one || !two) throw new Error('two parts were wanted');
  const lost: LocalNode = { id: '3', name: '', config: {} };
  const liar: LocalNode = { id: '4', name: 'liar', config: two.config };
  const handlers = { ...nodeHalf.handlers };
  handlers['train'] = async (message, context) => {
    const answer = await nodeHalf.handlers['train']?.(message, context);
    return context.nodeId === '4' ? { ...answer, examples: -1 } : answer;
  };
  const run = (nodes: LocalNode[]) =>
    runLocally({ main: serverHalf.main, handlers, nodes, config: { ...config, rounds: 1 } });
  const { log } = await run([one, lost, liar]);
  t.ok(log.some(line => line.includes('warn round 1: 3 is left out of train: this node was not told where')));
  t.ok(log.some(line => line.includes('warn round 1: liar is left out of train: its answer makes no sense')));
  t.ok(log.some(line => line.startsWith('info round 1/1') && line.includes('(1 node,')));
  await t.rejects(run([lost]), /round 1: no node could train/);
});

void t.test('invalid settings end the run before its first round', async t => {
  const odd = { rounds: 0, 'local-epochs': 1.5, 'batch-size': '16', 'learning-rate': -1, seed: 0.5 };
  for (const [name, value] of Object.entries(odd)) {
    const run = runLocally({
      ...{ main: serverHalf.main, handlers: nodeHalf.handlers, nodes: [] },
      config: { ...config, [name]: value },
    });
    await t.rejects(run, new RegExp(`^Error: ${name} wants|^${name} wants`));
  }
});

const rounds: Round[] = [0.71, 0.88, 0.93, 0.952, 0.961].map((accuracy, at) => ({
  round: at + 1,
  accuracy,
  loss: 1 / (at + 1),
}));

void t.test('the plot is well-formed SVG for any rounds', t => {
  const many = Array.from({ length: 100 }, (_, at) => ({ round: at + 1, accuracy: at / 100, loss: 0 }));
  for (const each of [rounds, rounds.slice(0, 1), many, [{ round: 1, accuracy: 1, loss: 0 }]]) {
    const svg = drawAccuracy(each);
    t.same(unclosedTags(svg), []);
    t.notMatch(svg, /NaN|undefined|Infinity/);
    t.equal(svg.match(/<circle/g)?.length, each.length);
  }
  t.match(drawAccuracy(rounds), /96\.1 %.*prefers-color-scheme: dark/s);
  t.end();
});

/** Tags that are not closed in order; the text between them holds no markup. */
function unclosedTags(svg: string): string[] {
  const open: string[] = [];
  for (const [, close, name = '', empty] of svg.matchAll(
    /<(\/?)([a-z]+)(?:\s+[a-zA-Z-]+="[^"<&]*")*\s*(\/?)>/g,
  )) {
    if (close) {
      if (open.pop() !== name) return [`</${name}>`];
    } else if (!empty) open.push(name);
  }
  const rest = svg.replaceAll(/<\/?[a-z]+(?:\s+[a-zA-Z-]+="[^"<&]*")*\s*\/?>/g, '');
  return /[<>&]/.test(rest) ? ['odd text'] : open;
}

void t.test('rounds are read from a result or a run, and from no other JSON', t => {
  t.same(readRounds(JSON.stringify({ rounds, accuracy: 0.961 })), rounds);
  t.same(readRounds(JSON.stringify({ id: '7', status: 'finished', result: { rounds } })), rounds);
  for (const odd of [
    {},
    [],
    null,
    { rounds: [] },
    { rounds: [{ round: 1, accuracy: 2, loss: 0 }] },
    { result: 'x' },
  ])
    t.throws(() => readRounds(JSON.stringify(odd)), /no result of a run of digits/);
  t.end();
});

void t.test('the scripts split and plot work from the command line', async t => {
  const folder = await makeFolder(t);
  const script = (name: string, ...parts: string[]) =>
    spawnSync(process.execPath, ['--import=tsx', join(example, `${name}.ts`), ...parts], {
      cwd: root,
      encoding: 'utf8',
    });
  const split = script('split', '--parts', '2', '--out', join(folder, 'datasets'));
  t.equal(split.status, 0, split.stderr);
  t.match(split.stdout, /part_2: \d+ to learn from, \d+ held out; --node-config 'dataset-path="/);
  await writeFile(join(folder, 'result.json'), JSON.stringify({ rounds }));
  const plot = script('plot', join(folder, 'result.json'), '--out', join(folder, 'accuracy.svg'));
  t.equal(plot.status, 0, plot.stderr);
  t.equal(await readFile(join(folder, 'accuracy.svg'), 'utf8'), drawAccuracy(rounds));
  for (const odd of [['split', '--parts', 'no'], ['split', '--odd'], ['plot']] as const) {
    const [name, ...parts] = odd;
    const refused = script(name, ...parts);
    t.equal(refused.status, 2, odd.join(' '));
    t.match(refused.stderr, /^error: .*\nhint: see --help\n$/s);
  }
  t.equal(script('plot', join(folder, 'nothing.json')).status, 1);
});
