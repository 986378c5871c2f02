/** What the pages for people say: commands that can be typed, files that are there, the example as it is. */
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';
import { referencePages } from '../scripts/reference.js';
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

void t.test('every command and flag in the docs is one that can be typed', async t => {
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

void t.test('git ignores what the commands of README.md and docs/apps.md write into the clone', async t => {
  const ignored = (await read('.gitignore')).split('\n').map(line => line.replace(/^\//, ''));
  const texts = await Promise.all([read('README.md'), read('docs/apps.md')]);
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
});

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

void t.test('docs/apps.md shows what examples/hello holds', async t => {
  const page = await read('docs/apps.md');
  for (const name of ['server.js', 'node.js'])
    t.match(page, `\`\`\`js\n// ${name}\n${await read(`examples/hello/${name}`)}\`\`\``);
  const manifest = JSON.parse(await read('examples/hello/app.json')) as unknown;
  const [, shown = ''] = /^ +app\.json +(\{.*\})$/m.exec(page) ?? [];
  t.same(JSON.parse(shown), manifest);
});

void t.test('docs/reference holds what the tables of the code say', async t => {
  for (const [name, text] of await referencePages()) {
    const page = join('docs/reference', name);
    t.ok((await read(page)) === text, `${page} is current; npm run reference writes it`);
  }
});
