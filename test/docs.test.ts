/** The pages of the documentation: valid commands, existing files, examples as they are. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';
import { referencePages } from '../scripts/reference.js';
import { errorCodes, type ErrorCode } from '../src/base/errors.js';
import {
  exporterBinding,
  exporterBytes,
  exporterLabel,
  endPointBindingType,
} from '../src/identity/binding.js';
import { maxNodeCertificateBytes } from '../src/identity/certificate.js';
import { curves } from '../src/identity/curve.js';
import { transcriptLabel } from '../src/identity/transcript.js';
import { deadlines } from '../src/link/doors/node-port.js';
import { maxTextLength, nonceBytes } from '../src/link/enrollment/attempt.js';
import * as enrollments from '../src/link/enrollment/issuance.js';
import { createMetrics, metricTable } from '../src/link/metrics.js';
import { maxKnownRuns } from '../src/link/runs/messages/node-frames.js';
import * as sessions from '../src/link/sessions/sessions.js';
import { pingTimes } from '../src/link/sessions/ping-sweep.js';
import { baseMs, calmBaseMs, capMs, pauseAfter, settledAfterMs } from '../src/node/backoff.js';
import { maxChainLength } from '../src/node/enroll.js';
import { limits, protocolVersions } from '../src/protocol/limits.js';
import { root, run } from './cli/fixtures/shell.js';

const pages = [
  ...(await readdir(root)),
  ...(await readdir(join(root, 'docs'), { recursive: true })).map(name => join('docs', name)),
  'examples/digits/README.md',
].filter(name => name.endsWith('.md'));
const read = (page: string): Promise<string> => readFile(join(root, page), 'utf8');

/** The commands in the blocks of a page, each on one line, without its comment. */
function commandsOf(text: string): string[] {
  return [...text.matchAll(/^```[a-z]*\n(.*?)^```/gms)]
    .flatMap(([, block = '']) => block.replaceAll(/\\\n\s*/g, ' ').split('\n'))
    .map(line => line.replace(/^\$ /, '').replace(/\s+#.*$/, ''))
    .filter(line => line.startsWith('rollcall '));
}

void t.test('every command and flag in the docs exists in the command', async t => {
  const commands = new Set((await Promise.all(pages.map(read))).flatMap(commandsOf));
  t.ok(commands.size > 40, `${commands.size} commands`);
  const helps = new Map<string, Promise<string>>();
  const help = (words: readonly string[]): Promise<string> => {
    const key = words.join(' ');
    const found = helps.get(key) ?? run([...words, '--help']).then(({ stdout }) => stdout);
    helps.set(key, found);
    return found;
  };
  for (const command of commands) {
    // One of several runs of words joined by `&&` or a pipe, and by `a | b` for one of both.
    const [, first = '', second = ''] = command.split(/ && | < /)[0]?.split(/\s+/) ?? [];
    const hasSecond =
      /^[a-z][a-z-]*$/.test(second) && !['link', 'node', 'app-host', 'run', 'login'].includes(first);
    const shown = await help(hasSecond ? [first, second] : [first]);
    t.match(
      shown,
      new RegExp(`^usage: rollcall ${[first, hasSecond ? second : ''].join(' ').trim()}`, 'i'),
      command,
    );
    for (const [flag] of command.split(' && ')[0]?.matchAll(/(?<=\s)--[a-z][a-z-]*/g) ?? [])
      t.match(shown, new RegExp(`${flag}\\b`), command);
  }
});

void t.test(
  'git ignores what the commands of README.md, docs/getting-started.md and docs/apps.md write into the clone',
  async t => {
    const ignored = (await read('.gitignore')).split('\n').map(line => line.replace(/^\//, ''));
    const texts = await Promise.all(['README.md', 'docs/getting-started.md', 'docs/apps.md'].map(read));
    const written = texts.flatMap(text =>
      [
        ...text.matchAll(/^(?:\$ )?(?:rollcall .*--output|rollcall audit export) ([\w./-]+)/gm),
        ...text.matchAll(/^(?:\$ )?cp \S*\/([\w.-]+) \.(?= |$)/gm),
        ...text.matchAll(/(node\.yaml): rollcall node/g),
      ].map(([, name = '']) => name),
    );
    t.same([...new Set(written)].sort(), ['app-key.pub', 'log.jsonl', 'node.yaml', 'token']);
    t.same(
      written.filter(name => !ignored.includes(name)),
      [],
    );
  },
);

void t.test('every link from a page leads to a file that the package has', async t => {
  const { files } = JSON.parse(await read('package.json')) as { files: string[] };
  for (const page of pages) {
    for (const [, target = ''] of (await read(page)).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      const path = normalize(join(dirname(page), target));
      await t.resolves(
        readdir(join(root, path)).catch(() => readFile(join(root, path))),
        `${page} → ${path}`,
      );
      t.ok(
        files.some(file => path === file || path.startsWith(`${file}/`)),
        `${page} → ${path} is in the package`,
      );
    }
  }
});

void t.test('docs/apps.md shows the files of examples/hello and hello-python', async t => {
  const page = await read('docs/apps.md');
  for (const name of ['server.py', 'node.py'])
    t.match(page, `\`\`\`python\n# ${name}\n${await read(`examples/hello-python/${name}`)}\`\`\``);
  for (const name of ['server.js', 'node.js'])
    t.match(page, `\`\`\`js\n// ${name}\n${await read(`examples/hello/${name}`)}\`\`\``);
  const manifest = JSON.parse(await read('examples/hello/app.json')) as unknown;
  const [, shown = ''] = /^ +app\.json +(\{.*\})$/m.exec(page) ?? [];
  t.same(JSON.parse(shown), manifest);
});

void t.test('docs/reference is what the tables of the code generate', async t => {
  for (const [name, text] of await referencePages()) {
    const page = join('docs/reference', name);
    t.ok((await read(page)) === text, `${page} is current; npm run reference writes it`);
  }
});

void t.test('docs/reference/metrics.md has every metric that the link renders, and no other', async t => {
  const metrics = createMetrics();
  metrics.observe({
    sessions: () => 0,
    runs: () => 0,
    certificateExpiresAt: () => 0,
    nodes: () => Promise.resolve({}),
  });
  const { body } = await metrics.render();
  const rendered = [...body.matchAll(/^# TYPE (rollcall_\w+) (\w+)$/gm)].map(([, name, kind]) => [
    name,
    kind,
  ]);
  const listed = Object.entries(metricTable).map(([name, { kind }]) => [name, kind]);
  t.same(rendered.sort(), listed.sort());
  const others = [...body.matchAll(/^# TYPE (?!rollcall_)(\w+)/gm)].map(([, name = '']) => name);
  t.same(
    others.filter(name => !/^(process|nodejs)_/.test(name)),
    [],
  );
});

const seconds = (ms: number): string => `${ms / 1000} s`;
const kib = (bytes: number): string => `${bytes / 1024} KiB`;

/** The cells of the table under a heading, by row, without the head. */
async function rowsUnder(page: string, heading: string): Promise<string[][]> {
  const [, section = ''] = (await read(page)).split(`\n## ${heading}\n`);
  const lines = (section.split('\n## ')[0] ?? '').split('\n').filter(line => line.startsWith('|'));
  return lines.slice(2).map(line =>
    line
      .split('|')
      .slice(1, -1)
      .map(cell => cell.trim()),
  );
}

void t.test('docs/protocol.md states the numbers of the code', async t => {
  const { handshakeMs, idleMs, afterRefusalMs } = deadlines;
  const { proofMs, silenceMs, replacedPauseMs } = limits;
  const { pingEveryMs, pongWithinMs } = pingTimes;
  const times = [
    ...[handshakeMs, idleMs, proofMs, afterRefusalMs, pingEveryMs, pongWithinMs],
    ...[silenceMs, replacedPauseMs],
  ];
  t.same(
    (await rowsUnder('docs/protocol.md', 'Order and deadlines')).map(([, within]) => within),
    times.map(seconds),
  );
  t.same(
    (await rowsUnder('docs/protocol.md', 'Limits')).map(([, bound]) => bound),
    [
      `${kib(limits.strangerFrameBytes)}, ${kib(limits.messageBytes)}`,
      `${maxTextLength} characters`,
      `${maxNodeCertificateBytes} bytes`,
      `${maxChainLength} certificates`,
      `${limits.serverRoots}, ${kib(limits.serverRootBytes)}`,
      `${maxKnownRuns}`,
      `${enrollments.maxBurst}`,
      `${sessions.maxBurst}`,
    ],
  );
  const page = (await read('docs/protocol.md')).replaceAll(/\s+/g, ' ');
  const said = [
    ...Object.values(curves).map(({ spkiPrefix }) => `\`${spkiPrefix.toString('hex')}\``),
    `\`${transcriptLabel}\`, ASCII`,
    `\`${exporterBinding}\` (RFC 9266): the TLS 1.3 exporter with the label \`${exporterLabel}\``,
    `an empty context, ${exporterBytes} bytes`,
    `\`${endPointBindingType}\` (RFC 5929)`,
    `nonce (${nonceBytes} random bytes)`,
    `then one in ${seconds(enrollments.refillMs)}`,
    `then one in ${seconds(sessions.refillMs)}`,
    `between nothing and ${seconds(baseMs)}, doubled with each failure up to ${seconds(capMs)}`,
    `from ${seconds(calmBaseMs)}, doubled up to ${seconds(capMs)}`,
    `A session that lasted ${seconds(settledAfterMs)}`,
    `This is version ${protocolVersions.join(', ')}, and the only one.`,
  ];
  for (const words of said) t.ok(page.includes(words), words);
});

/** After a third failure: the least and the most that the agent waits, in ms, and how the page calls that. */
const pauses: Readonly<Record<string, string>> = {
  '0 2000': 'soon',
  '10000 20000': 'calmly',
  '0 0': 'at once, enrolling',
  '30000 45000': 'after 30 s',
  '2000 3000': 'as Drain said',
};

function againAfter(code: ErrorCode): string | undefined {
  if (code === 'NODE_REVOKED') return 'never';
  const asked = code === 'LINK_DRAINING' ? 2_000 : undefined;
  const setback = { code, failures: 3, refusals: 1, askedPauseMs: asked };
  const ends = [0, 0xff].map(chance => pauseAfter(setback, size => Buffer.alloc(size, chance)));
  return pauses[ends.map(Math.round).join(' ')];
}

void t.test(
  'docs/protocol.md has every refusal of an enrollment and a session, and its consequence',
  async t => {
    const rows = await rowsUnder('docs/protocol.md', 'Refusals');
    const listed = rows.map(([code = '']) => code.replaceAll('`', ''));
    for (const [index, [, , final, again]] of rows.entries()) {
      const code = errorCodes.find(each => each === listed[index]);
      if (!code) t.fail(`${listed[index]} is no error code`);
      else t.same([final, again], [code === 'NODE_REVOKED' ? 'yes' : 'no', againAfter(code)], code);
    }
    const files = [
      ...['enrollment', 'sessions'].map(folder => join('src/link', folder)),
      'src/link/doors/nodes',
      ...['binding.ts', 'certificate.ts', 'key-errors.ts'].map(name => join('src/identity', name)),
      ...['src/link/registry/node-machine.ts', 'src/base/rate-limit.ts'],
    ];
    const paths = await Promise.all(
      files.map(async path =>
        path.endsWith('.ts') ? [path] : (await readdir(join(root, path))).map(name => join(path, name)),
      ),
    );
    const code = (await Promise.all(paths.flat().map(read))).join('\n');
    const thrown = new Set(
      [...code.matchAll(/new RollcallError\(\s*'([A-Z_]+)'/g)].map(([, name = '']) => name),
    );
    // Never sent: the first is for a node that is gone, the second for key files.
    for (const name of ['LINK_UNREACHABLE', 'KEY_PASSPHRASE']) thrown.delete(name);
    t.ok(thrown.size > 15, [...thrown].join(', '));
    t.same(
      [...thrown].filter(name => !listed.includes(name)),
      [],
      'codes that the page does not have',
    );
  },
);

void t.test(
  'the vectors of the proof are verified by node:crypto alone, as docs/protocol.md says',
  async t => {
    const check = (...files: string[]): Promise<readonly [unknown, string]> =>
      new Promise(resolve => {
        const script = join(root, 'docs/vectors/check-proofs.js');
        execFile(process.execPath, [script, ...files], (error, stdout) =>
          resolve([error?.code ?? 0, stdout]),
        );
      });
    t.same(await check(), [0, '74 as they should be, 0 wrong\n']);
    const folder = t.testdir({
      'transcript.json': await read('docs/vectors/transcript.json'),
      'proof.json': (await read('docs/vectors/proof.json')).replace('"valid": true', '"valid": false'),
    });
    const [code, said] = await check(join(folder, 'transcript.json'), join(folder, 'proof.json'));
    t.equal(code, 1);
    t.match(said, 'wrong: P-256: by the node key\n73 as they should be, 1 wrong\n');
  },
);

/** Wordings that a reader has to decode. "There is none" is plain; "the digest is none" is not. */
const idioms =
  /\b[Ww]hoever\b|\bunless told\b|\bwanted is\b|\bof no type\b|\b[Ii]n earnest\b|\bis not to be called\b|\bwhether at all\b|\bwhat is asked about\b|(?<![Tt]here )\bis none\b(?! of (?:the|this|our))/;

void t.test('source, tests and pages are free of the idioms that plain English replaced', async t => {
  for (const folder of ['', 'src', 'test', 'python', 'scripts', 'examples', 'bench', 'docs']) {
    for (const name of await readdir(join(root, folder), { recursive: folder !== '' })) {
      const isText = /\.(ts|js|py|md)$/.test(name) && !name.includes('generated') && name !== 'docs.test.ts';
      if (!isText || name === join('cli', 'settings-flags.test.ts')) continue;
      const lines = (await read(join(folder, name))).split('\n');
      const found = lines.findIndex(line => idioms.test(line));
      if (found !== -1) t.fail(`${folder}/${name}:${found + 1}: ${lines[found] ?? ''}`);
    }
  }
});

/** A comment that begins with a relative clause names its subject too late. */
const relativeBeginning =
  /(?:\/\*\*\s*\n?\s*\*? ?|(?<!\/\/[^\n]*\n\s*)\/\/ )(?:What|Where|Who|Whose|Whatever|Whoever|Those (?:that|who)|That which) /;

void t.test('no comment begins with a relative clause', async t => {
  for (const folder of ['src', 'test', 'scripts', 'examples', 'bench']) {
    for (const name of await readdir(join(root, folder), { recursive: true })) {
      if (!/\.[jt]s$/.test(name) || name.includes('generated')) continue;
      const text = await read(join(folder, name));
      const found = relativeBeginning.exec(text);
      if (!found) continue;
      const line = text.slice(0, found.index).split('\n').length;
      t.fail(`${folder}/${name}:${line}: ${text.slice(found.index, found.index + 80)}`);
    }
  }
});

void t.test('README.md fits two screens, and every relative link of a page has its target', async t => {
  t.ok((await read('README.md')).split('\n').length <= 111, 'README.md has at most 110 lines');
  const folders = ['', 'docs', 'examples', 'bench', 'test/vectors'];
  for (const folder of folders) {
    for (const name of await readdir(join(root, folder), { recursive: folder !== '' })) {
      if (!name.endsWith('.md') || name.includes('node_modules')) continue;
      const page = join(folder, name);
      const text = (await read(page)).replaceAll(/^```.*?^```/gms, '');
      for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        const [path = '', anchor] = target.split('#');
        const file = path === '' ? page : join(folder, dirname(name), path);
        const isThere = await stat(join(root, file)).catch(() => undefined);
        if (!isThere) t.fail(`${page} leads to ${target}, which is not there`);
        else if (anchor !== undefined && !anchorsOf(await read(file)).has(anchor))
          t.fail(`${page} leads to ${target}, and there is no such heading`);
      }
    }
  }
});

/** As GitHub makes them of headings. */
function anchorsOf(text: string): ReadonlySet<string> {
  return new Set(
    [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

void t.test('every source file that a page names is there', async t => {
  const known = new Set<string>();
  for (const folder of ['src', 'test', 'scripts', 'examples', 'bench'])
    for (const name of await readdir(join(root, folder), { recursive: true }))
      known.add(join('/', folder, name));
  const isThere = (name: string): boolean => [...known].some(path => path.endsWith(join('/', name)));
  const pages = ['ARCHITECTURE.md', 'SECURITY.md', 'CONTRIBUTING.md'];
  for (const name of await readdir(join(root, 'docs'), { recursive: true }))
    if (name.endsWith('.md')) pages.push(join('docs', name));
  t.ok(pages.length > 15, `${pages.length} pages`);
  for (const page of pages) {
    for (const [, name = ''] of (await read(page)).matchAll(/`([a-z][a-z0-9./-]*\.ts)`/g))
      if (!isThere(name)) t.fail(`${page} names ${name}, which is not there`);
  }
});

/** Of a title: it is read alone, as a failing line in CI, so it begins with its subject and not with a pronoun. */
const unclearTitle =
  /^(nor|and|what|who|where|whatever|none|nobody|those|that|one that|it|its|they|them)\b|\b(vouch|knock|let in|sent away|is told|is heard)/i;

void t.test('titles of tests name their subject, without idioms', async t => {
  let titles = 0;
  for (const name of await readdir(join(root, 'test'), { recursive: true })) {
    if (!name.endsWith('.ts')) continue;
    const text = await read(join('test', name));
    for (const { 2: title = '', index } of text.matchAll(
      /(?:\.test|\battack|\btestBoth)\(\s*(['"`])((?:\\.|(?!\1).)+)\1,/g,
    )) {
      titles += 1;
      const said = title.replace(/^(\$\{[^}]*\}|\w+): /, '');
      const line = text.slice(0, index).split('\n').length;
      if (unclearTitle.test(said) || idioms.test(said)) t.fail(`test/${name}:${line}: ${title}`);
    }
  }
  t.ok(titles > 1_000, `${titles} titles`);
});
