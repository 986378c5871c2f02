/** The house as ARCHITECTURE.md draws it, held against the imports of src. */
import t from 'tap';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { version } from '../src/base/version.js';

const src = join(import.meta.dirname, '../src');

interface SourceFile {
  /** Below src, without the ending. */
  readonly name: string;
  readonly text: string;
  /** Names below src. */
  readonly files: readonly string[];
  readonly packages: readonly string[];
}

function readSources(): SourceFile[] {
  return readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.ts'))
    .map(path => readSource(path));
}

function readSource(path: string): SourceFile {
  const text = readFileSync(join(src, path), 'utf8');
  const specifiers = [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^;'"]*?from\s*'([^']+)'|import\(\s*'([^']+)'\s*\)|(?:^|\n)import\s*'([^']+)'|"(\.[^"]+\.js)"/g,
    ),
  ]
    .map(match => match[1] ?? match[2] ?? match[3] ?? match[4] ?? '')
    .filter(specifier => specifier !== '');
  const isFile = (specifier: string) => specifier.startsWith('.');
  return {
    name: path.replace(/\.ts$/, ''),
    text,
    files: specifiers
      .filter(isFile)
      .map(specifier => relative(src, join(src, dirname(path), specifier)).replace(/\.js$/, '')),
    packages: specifiers
      .filter(specifier => !isFile(specifier) && !specifier.startsWith('node:'))
      .map(specifier =>
        specifier
          .split('/')
          .slice(0, specifier.startsWith('@') ? 2 : 1)
          .join('/'),
      ),
  };
}

/** Floors from the ground up. A file may import from its own room and from lower floors. */
const floors: readonly (readonly string[])[] = [
  ['base'],
  ['identity', 'protocol', 'app', 'store'],
  ['tokens', 'audit-log', 'app-package', 'objects'],
  ['app-host'],
  ['link/audit', 'link/authority', 'link/metrics', 'link/alive', 'link/trust-domain', 'link/tenant-mark'],
  ['link/registry', 'link/access'],
  ['link/sessions', 'link/enrollment'],
  ['link/runs'],
  ['link/control', 'link/run-control', 'link/administration', 'link/tenant-sweep', 'link/settings'],
  ['link/doors', 'link/config'],
  ['link/parts'],
  ['link/link', 'link/check'],
  ['link/start'],
  ['link/main'],
  ['cli'],
];
/** Beside the link, on the same ground; they know nothing of it and of one another. */
const besideTheLink: readonly string[] = ['node', 'control-client'];
const besideFloor = 4;

function roomOf(name: string): string {
  const rooms = [...floors.flat(), ...besideTheLink];
  const room = rooms.find(each => name === each || name.startsWith(`${each}/`));
  if (room === undefined)
    throw new Error(`${name} is in no room: add it to the floors here and to ARCHITECTURE.md`);
  return room;
}

function floorOf(room: string): number {
  return besideTheLink.includes(room) ? besideFloor : floors.findIndex(floor => floor.includes(room));
}

const sources = readSources();

void t.test('every import goes to the same room or to a lower floor', t => {
  for (const file of sources) {
    const room = roomOf(file.name);
    for (const target of file.files) {
      const to = roomOf(target);
      const goesDown = to === room || floorOf(to) < floorOf(room);
      if (!goesDown) t.fail(`${file.name} imports ${target}`);
      if (besideTheLink.includes(room) && to.startsWith('link')) t.fail(`${file.name} imports the link`);
      if (room.startsWith('link') && besideTheLink.includes(to)) t.fail(`${file.name} imports ${target}`);
    }
  }
  t.ok(sources.length > 50);
  t.end();
});

void t.test('imports have no cycle', t => {
  const byName = new Map(sources.map(file => [file.name, file]));
  const done = new Set<string>();
  const visit = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) {
      t.fail(`cycle: ${[...path.slice(path.indexOf(name)), name].join(' → ')}`);
      return;
    }
    if (done.has(name)) return;
    for (const target of byName.get(name)?.files ?? []) visit(target, [...path, name]);
    done.add(name);
  };
  for (const { name } of sources) visit(name, []);
  t.end();
});

void t.test('a package with one permitted importer has only that importer', t => {
  const importers: Readonly<Record<string, RegExp>> = {
    level: /^store\/level$/,
    'node-forge': /^link\/authority\/x509$/,
    '@noble/curves': /^identity\//,
    pino: /^base\/log$/,
    'prom-client': /^link\/metrics$/,
    sshpk: /^identity\/openssh-encrypted$/,
    yaml: /^(base\/config-file)$/,
    commander: /^cli\//,
    '@grpc/grpc-js': /^(protocol|tokens|node|link\/doors\/grpc|control-client)\//,
    jose: /^(tokens|link\/access)\//,
    otpauth: /^link\/access\/accounts\/second-factor$/,
    fastify: /^link\/doors\/rest\//,
    '@bufbuild/protobuf': /^protocol\/generated\//,
  };
  for (const file of sources) {
    for (const name of file.packages) {
      const allowed = importers[name];
      if (!allowed) t.fail(`${file.name} imports ${name}, which is not in the list here`);
      else if (!allowed.test(file.name)) t.fail(`${file.name} imports ${name}`);
    }
  }
  t.end();
});

void t.test('the process and its environment are used only at the entry points', t => {
  const allowed =
    /^(link\/main|node\/main|app-host\/(hosting|runner)\/main$|cli\/|control-client\/environment-(proxy|token)$)/;
  for (const { name, text } of sources) {
    const uses = [...text.matchAll(/\bprocess\.(env|argv|exit|on|stdout|stdin|stderr)\b/g)].map(
      match => match[0],
    );
    if (uses.length > 0 && !allowed.test(name)) t.fail(`${name} uses ${uses.join(', ')}`);
  }
  t.end();
});

void t.test('the version of the code is the version of the package', t => {
  const { version: published } = JSON.parse(readFileSync(join(src, '../package.json'), 'utf8')) as {
    version: string;
  };
  t.equal(version, published);
  t.end();
});
