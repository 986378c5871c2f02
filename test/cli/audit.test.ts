/** The `audit` commands over a log in memory: what they print, what they write, how they end. */
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import t from 'tap';
import { encodeCheckpoint, signCheckpoint, type Checkpoint } from '../../src/audit-log/checkpoint.js';
import { encodeEntry, firstPrevious, hashEntry, type AuditEntry } from '../../src/audit-log/entry.js';
import { encodeHeader, maxLineLength } from '../../src/audit-log/export-line.js';
import { linkParty } from '../../src/audit-log/party.js';
import { RollcallError } from '../../src/base/errors.js';
import { addAuditCommands } from '../../src/cli/audit-command.js';
import { readLines } from '../../src/cli/audit-files.js';
import { parseWhen } from '../../src/cli/moment.js';
import type { AuditQuery, AuditSource } from '../../src/control-client/audit.js';
import { reportFailure } from '../../src/cli/failure.js';
import type { Output } from '../../src/cli/terminal.js';
import { generatePrivateKey, toSpkiPem } from '../../src/identity/private-key.js';
import { serviceParty, userParty } from '../harness/parties.js';
import { Kept } from './fixtures/shell.js';

const key = generatePrivateKey('P-256');
const otherKey = generatePrivateKey('P-256');
const trustDomain = 'fleet.example';
const noon = Date.parse('2026-01-15T12:00:00Z');
const folder = t.testdir();

type Told = Partial<Omit<AuditEntry, 'seq' | 'previous' | 'hash'>>;

function chain(tell: readonly Told[]): AuditEntry[] {
  const entries: AuditEntry[] = [];
  for (const [index, told] of tell.entries()) {
    const before = entries.at(-1)?.hash ?? firstPrevious;
    const fields = {
      at: noon + index * 1000,
      type: 'user.login',
      subject: '',
      by: userParty('anna'),
      detail: {},
      ...told,
    };
    const entry = { seq: index + 1, ...fields, previous: before };
    entries.push({ ...entry, hash: hashEntry(entry) });
  }
  return entries;
}

const log = chain([
  // Entries from before parties had kinds.
  { type: 'node.registered', subject: '7', by: 'anna', detail: { name: 'press-3' } },
  { outcome: 'refused', address: '10.0.0.9', requestId: 'r2' },
  { type: 'node.revoked', subject: '7', by: serviceParty('bert') },
]);

function checkpointOf(entries: readonly AuditEntry[], seq: number, tenant = 'default', by = key): Checkpoint {
  const hash = entries[seq - 1]?.hash ?? '';
  return signCheckpoint(by, { trustDomain, tenant, seq, hash, at: noon });
}

function linesOf(entries: readonly AuditEntry[], checkpoints: readonly Checkpoint[] = []): string[] {
  const publicKeyPem = toSpkiPem(key.publicKey);
  return [
    encodeHeader({ tenant: 'default', trustDomain, publicKeyPem, from: 1, to: entries.length }),
    ...entries.map(encodeEntry),
    ...checkpoints.map(encodeCheckpoint),
  ];
}

interface Source extends AuditSource {
  readonly asked: AuditQuery[];
}

/** As a link answers: pages of two, newest first when asked. */
function sourceOf(entries: readonly AuditEntry[], more: Partial<AuditSource> = {}): Source {
  const asked: AuditQuery[] = [];
  return {
    asked,
    listEvents(query) {
      asked.push(query);
      const { from, newestFirst, typePrefix = '', limit } = query;
      const ordered = newestFirst ? entries.toReversed() : entries;
      const start = from === undefined ? 0 : ordered.findIndex(({ seq }) => seq === from) + 1;
      const some = ordered.slice(start, start + Math.min(2, limit));
      const next = start + 2 < ordered.length ? some.at(-1)?.seq : undefined;
      return Promise.resolve({
        entries: some.filter(({ type }) => type.startsWith(typePrefix)),
        damaged: [],
        next,
      });
    },
    async *exportLines() {
      for (const line of linesOf(entries, [checkpointOf(entries, 3)])) yield await Promise.resolve(line);
    },
    latestCheckpoint: () => Promise.resolve(checkpointOf(entries, entries.length)),
    ...more,
  };
}

interface Options {
  readonly source?: AuditSource;
  readonly isTTY?: boolean;
}

/** Runs `rollcall audit …` as program.ts runs every command. */
async function run(words: readonly string[], { source = sourceOf(log), isTTY = false }: Options = {}) {
  const stdout = new Kept(isTTY);
  const stderr = new Kept(isTTY);
  const shell = {
    stdout: stdout as Output,
    stderr: stderr as Output,
    environment: {},
    now: () => noon + 60_000,
    onInterrupt: () => () => undefined,
  };
  let code = 0;
  const program = new Command('rollcall').exitOverride().configureOutput({ outputError: () => undefined });
  addAuditCommands(
    program,
    shell,
    act =>
      async (...given) =>
        void (code = await act(...given)),
    async (_shell, _flags, ask) => (await ask(source, { say: () => undefined, clear: () => undefined })) ?? 0,
  );
  try {
    await program.parseAsync(['audit', ...words], { from: 'user' });
  } catch (error) {
    code = error instanceof CommanderError ? 2 : reportFailure(shell, error);
  }
  return { code, stdout: stdout.text, stderr: stderr.text };
}

let files = 0;
async function write(content: string | Uint8Array | readonly string[]): Promise<string> {
  files += 1;
  const path = join(folder, `file-${files}`);
  await writeFile(path, Array.isArray(content) ? `${content.join('\n')}\n` : (content as string));
  return path;
}

void t.test('audit list, piped: aligned columns, newest entries first', async t => {
  t.strictSame(await run(['list']), {
    code: 0,
    stdout: `Entry    When                  Event                 Outcome  By                Subject
3        2026-01-15 12:00:02Z  node.revoked          done     service:bert      7
2        2026-01-15 12:00:01Z  user.login            refused  user:anna         -
1        2026-01-15 12:00:00Z  node.registered       done     anna              7
`,
    stderr: '',
  });
  const wide = await run(['list', '--wide', '--oldest-first', '--limit', '2']);
  t.match(wide.stdout, /Subject +Address +Request +Detail\n1 .* name=press-3\n2 .* 10\.0\.0\.9 +r2 +-\n$/);
});

void t.test('audit list passes its filters to the link, page by page', async t => {
  const source = sourceOf(log);
  const said = await run(
    [
      'list',
      '--type',
      'node.',
      '--by',
      'anna',
      '--subject',
      '7',
      '--since',
      '2026-01-15',
      '--until',
      '30s',
      '--limit',
      '7',
    ],
    { source },
  );
  t.match(said.stdout, /^Entry .*\n3 .*\n1 .*\n$/);
  const filter = {
    typePrefix: 'node.',
    by: 'anna',
    subject: '7',
    since: Date.parse('2026-01-15'),
    until: noon + 30_000,
  };
  t.match(source.asked, [
    { ...filter, newestFirst: true, limit: 7, from: undefined },
    { ...filter, limit: 6, from: 2 },
  ]);
  for (const wrong of [
    ['--since', 'yesterday'],
    ['--until', '2026-13-45'],
    ['--limit', '0'],
    ['--limit', 'x'],
  ]) {
    const refused = await run(['list', ...wrong]);
    t.equal(refused.code, 2, wrong.join(' '));
    t.match(refused.stderr, /^error: --/);
  }
  t.equal(parseWhen('--since', '2026-01-15T12:00:00+01:00', 0), noon - 3_600_000);
  t.equal(parseWhen('--before', 'now', noon), noon);
});

void t.test('audit list prints JSON, a table on a terminal, and an empty result', async t => {
  const json = JSON.parse((await run(['list', '--json'])).stdout) as unknown[];
  t.match(json[1], {
    seq: 2,
    at: '2026-01-15T12:00:01.000Z',
    type: 'user.login',
    outcome: 'refused',
    by: userParty('anna'),
    subject: null,
    address: '10.0.0.9',
    requestId: 'r2',
    hash: log[1]?.hash ?? '',
  });
  t.match(json[2], { by: { kind: null, id: null, name: 'anna' } }, 'one from before, with the same keys');
  const seen = await run(['list'], { isTTY: true });
  t.match(seen.stdout, /^┏━/);
  t.match(seen.stdout, '\u001b[33mrefused\u001b[0m');
  t.match(await run(['list'], { source: sourceOf([]) }), {
    code: 0,
    stderr: 'hint: no event matches\n',
  });
  t.strictSame(await run(['list', '--json'], { source: sourceOf([]) }), {
    code: 0,
    stdout: '[]\n',
    stderr: '',
  });
  const damaged = sourceOf(log, {
    listEvents: () => Promise.resolve({ entries: [], damaged: [4, 9], next: undefined }),
  });
  t.match((await run(['list'], { source: damaged })).stderr, /damaged entries that cannot be shown: 4, 9;/);
});

void t.test('audit export writes a file that verifies, and never overwrites one', async t => {
  const path = join(folder, 'log.jsonl');
  const said = await run(['export', path]);
  t.match(said, { code: 0, stdout: `✅ 5 lines written to ${path}.\n` });
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.equal(await readFile(path, 'utf8'), `${linesOf(log, [checkpointOf(log, 3)]).join('\n')}\n`);
  const verified = await run(['verify', path]);
  t.match(verified, { code: 0, stderr: /^hint: the key is the one in the export/ });
  t.equal(
    verified.stdout,
    `Tenant        default
Trust domain  fleet.example
Entries       3, from 1 to 3
Key           ${key.publicKey.fingerprint} (the key in the export)
Checkpoints   1 of 1 hold
Covered       up to entry 3
✅ Every entry fits.
`,
  );
  t.match(await run(['export', path]), { code: 2, stderr: /^error: .* exists already\n/ });
  t.match(await run(['export', join(folder, 'no/such/folder')]), {
    code: 2,
    stderr: /^error: cannot write /,
  });
  const failing = sourceOf(log, {
    async *exportLines() {
      yield await Promise.resolve('one');
      throw new RollcallError('LINK_UNREACHABLE', 'the link went away');
    },
  });
  const half = join(folder, 'half.jsonl');
  t.match(await run(['export', half], { source: failing }), {
    code: 3,
    stderr: 'error: the link went away\n',
  });
  await t.rejects(stat(half), { code: 'ENOENT' }, 'half an export is removed');
});

void t.test('audit verify names the first broken entry, and exits with 1', async t => {
  const lines = linesOf(log);
  const [header = '', one = '', two = '', three = ''] = lines;
  const cases: [string, string[], RegExp][] = [
    ['edited', [header, one, two.replace('anna', 'eve'), three], /^error: entry 2 was changed: /],
    ['deleted', [header, one, three], /^error: entry 2 is missing: /],
    ['reordered', [header, one, three, two], /^error: entry 2 is reordered: /],
    ['duplicated', [header, one, two, two, three], /^error: entry 2 is duplicated: /],
    ['truncated', [header, one, two], /^error: the log is truncated: it ends at entry 2, /],
    ['damaged', [header, one, two.slice(0, 9), three], /^error: entry 2 cannot be read: line 3 is /],
  ];
  for (const [name, changed, sentence] of cases) {
    const said = await run(['verify', await write(changed)]);
    t.equal(said.code, 1, name);
    t.match(said.stderr, sentence, name);
    t.notMatch(said.stdout, '✅');
  }
  const json = await run(['verify', await write([header, one, three]), '--json']);
  t.equal(json.code, 1);
  t.match(JSON.parse(json.stdout), { ok: false, problems: [{ kind: 'missing', seq: 2 }] });
});

void t.test('audit verify compares an export with a kept checkpoint, and states the gaps', async t => {
  const whole = await write(linesOf(log));
  const kept = await write(encodeCheckpoint(checkpointOf(log, 2)));
  const held = await run(['verify', whole, '--checkpoint', kept]);
  t.match(held, { code: 0, stdout: /the key of the checkpoint that was kept\)/ });
  t.equal(held.stderr, 'hint: no checkpoint covers entries 3 to 3\n');
  const cut = await write(linesOf(log.slice(0, 1)));
  t.equal((await run(['verify', cut])).code, 0);
  const found = await run(['verify', cut, '--checkpoint', kept]);
  t.match(found, {
    code: 1,
    stderr: /truncated: it ends at entry 1, the checkpoint that was kept is of entry 2;/,
  });

  const pem = await write(toSpkiPem(key.publicKey));
  const otherPem = await write(toSpkiPem(otherKey.publicKey));
  const signed = await write(linesOf(log, [checkpointOf(log, 3)]));
  t.match(await run(['verify', signed, '--public-key', pem]), { code: 0, stdout: /the key that was given/ });
  t.match(await run(['verify', signed, '--public-key', otherPem]), {
    code: 1,
    stderr: /signed by another key/,
  });
  for (const wrong of [
    [join(folder, 'nothing')],
    [folder],
    [whole, '--checkpoint', pem],
    [whole, '--checkpoint', join(folder, 'nothing')],
    [whole, '--public-key', whole],
    [],
    [whole, '--what'],
  ]) {
    const said = await run(['verify', ...wrong]);
    t.equal(said.code, 2, wrong.join(' '));
  }
  for (const nothing of ['', '\n', 'x', Buffer.of(0, 255, 10, 254)]) {
    const said = await run(['verify', await write(nothing)]);
    t.match(said, { code: 1, stdout: '', stderr: /^error: (there is nothing|line \d is not the header)/ });
  }
});

void t.test('audit verify reports a log that begins late, and its covering checkpoint', async t => {
  const trimmed = { type: 'audit.trimmed', by: linkParty, detail: { from: 1, to: 3 } };
  const entries = chain([{}, {}, {}, {}, trimmed]);
  const publicKeyPem = toSpkiPem(key.publicKey);
  const part = (...checkpoints: Checkpoint[]) =>
    write([
      encodeHeader({ tenant: 'default', trustDomain, publicKeyPem, from: 4, to: 5 }),
      ...entries.slice(3).map(encodeEntry),
      ...checkpoints.map(encodeCheckpoint),
    ]);
  const all = [2, 3, 5].map(seq => checkpointOf(entries, seq));
  const kept = await write(encodeCheckpoint(checkpointOf(entries, 2)));
  const said = await run(['verify', await part(...all), '--checkpoint', kept]);
  t.equal(said.code, 0);
  t.match(said.stdout, /^Entries +2, from 4 to 5\n/m);
  t.match(
    said.stdout,
    /^Trimmed +up to entry 3, by the link\nCheckpoints +2 of 2 hold, 1 older than the log\n/m,
  );
  t.equal(
    said.stderr,
    'hint: entries up to 3 left the log after their time; a checkpoint stands for them\n' +
      'hint: the checkpoint that was kept is of entry 2, which has left the log; keep a newer one\n',
  );
  t.match(await run(['verify', await part(...all.slice(2))]), {
    code: 1,
    stderr: 'error: entries 1 to 3 are missing, and no checkpoint of entry 3 that holds stands for them\n',
  });
});

void t.test('audit checkpoint prints and saves the newest one, and replaces only an earlier one', async t => {
  const printed = await run(['checkpoint']);
  t.strictSame(JSON.parse(printed.stdout), { ...checkpointOf(log, 3) });
  const path = join(folder, 'kept.json');
  const early = sourceOf(log.slice(0, 2));
  t.match(await run(['checkpoint', path], { source: early }), {
    code: 0,
    stdout: `✅ Checkpoint of entry 2 kept in ${path}.\n`,
    stderr: 'hint: keep it where the link cannot write\n',
  });
  t.match(await run(['checkpoint', path]), { code: 0, stdout: /of entry 3 kept/, stderr: '' });
  const content = await readFile(path, 'utf8');
  t.equal(content, `${encodeCheckpoint(checkpointOf(log, 3))}\n`);

  const anew = chain([{}, {}, { by: userParty('eve') }]);
  const latest = (checkpoint: Checkpoint) =>
    sourceOf(log, { latestCheckpoint: () => Promise.resolve(checkpoint) });
  const cases: [AuditSource, RegExp][] = [
    [early, /^error: the log was cut: it ends at entry 2, .* is of entry 3\nhint: .* stays as it is/],
    [sourceOf(anew), /^error: the log was written anew: entry 3 is not the one/],
    [
      latest(checkpointOf(log, 3, 'other')),
      /^error: .* holds a checkpoint of another log: of tenant default/,
    ],
    [latest(checkpointOf(log, 3, 'default', otherKey)), /^error: the link signs with another key, SHA256:/],
    [latest({ version: 1 } as Checkpoint), /^error: what the link gave is not a checkpoint/],
  ];
  for (const [source, sentence] of cases) {
    const said = await run(['checkpoint', path], { source });
    t.equal(said.code, 1);
    t.match(said.stderr, sentence);
    t.equal(await readFile(path, 'utf8'), content, 'the file stays');
  }
  t.match(await run(['checkpoint', await write('{}')]), { code: 2, stderr: /does not hold a checkpoint/ });
});

void t.test('control characters of audit entries are never printed', async t => {
  const nasty = 'x\n✅ forged\r\u001b[2J\u001b]0;t\u0007\u2028\u202e\u200b\u0085\u009b1m\ud800{"seq":9}';
  const detail = { [nasty]: nasty };
  const outcome = 'failed' as const;
  const entries = chain([
    {
      type: nasty,
      subject: nasty,
      by: { kind: 'user', id: nasty, name: nasty },
      address: nasty,
      requestId: nasty,
      outcome,
      detail,
    },
  ]);
  const source = sourceOf(entries);
  const publicKeyPem = toSpkiPem(key.publicKey);
  const header = encodeHeader({ tenant: nasty, trustDomain: nasty, publicKeyPem, from: 1, to: 9 });
  const fromElsewhere = {
    ...checkpointOf(entries, 1),
    tenant: 'a\n✅ forged\u001b[2J\u202e',
    keyFingerprint: 'k\n✅ forged',
  };
  const file = await write([header, ...entries.map(encodeEntry), encodeCheckpoint(fromElsewhere)]);
  const path = join(folder, 'other.json');
  await writeFile(path, encodeCheckpoint(fromElsewhere));
  const said = await Promise.all([
    run(['list', '--wide'], { source }),
    run(['list', '--wide'], { source, isTTY: true }),
    run(['list', '--json'], { source }),
    run(['verify', file]),
    run(['verify', file, '--json']),
    run(['verify', file, '--checkpoint', path], { isTTY: true }),
    run(['checkpoint', path], { source }),
    run(['checkpoint'], { source: { ...source, latestCheckpoint: () => Promise.resolve(fromElsewhere) } }),
  ]);
  for (const { stdout, stderr } of said) {
    const text = (stdout + stderr).replaceAll(/\u001b\[\d*m/g, '');
    t.notMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u202e\u200b\ud800-\udfff]/);
    t.notMatch(text, /^(error: |hint: )? *✅/m, 'no line of theirs');
  }
  const [table, , json] = said;
  t.equal(table.stdout.split('\n').length, 3, 'one entry is one line');
  t.strictSame((JSON.parse(json.stdout) as AuditEntry[])[0]?.detail, detail, 'JSON keeps it all');
});

void t.test('audit verify reads files line by line, whatever their contents', async t => {
  const read = async (content: string | Uint8Array) => {
    const lines: string[] = [];
    for await (const line of readLines(await write(content))) lines.push(line);
    return lines;
  };
  t.strictSame(await read('a\n\nb\r\nc'), ['a', '', 'b\r', 'c']);
  t.strictSame(await read('é'.repeat(40_000) + '\nx\n'), ['é'.repeat(40_000), 'x']);
  t.strictSame(await read(Buffer.from('61ff620a63', 'hex')), ['\ufffd', 'c']);
  const long = await read(Buffer.concat([Buffer.alloc(3 * maxLineLength, 0x61), Buffer.from('\nb')]));
  t.strictSame(
    long.map(({ length }) => length),
    [maxLineLength + 1, 1],
  );
  const exact = await read('a'.repeat(maxLineLength));
  t.equal(exact[0]?.length, maxLineLength);
  const bom = await write(Buffer.concat([Buffer.of(0xef, 0xbb, 0xbf), Buffer.from(linesOf(log).join('\n'))]));
  t.match(await run(['verify', bom]), { code: 1, stderr: /line 1 is not the header/ });
  await mkdir(join(folder, 'deep'));
  await t.rejects(readLines(join(folder, 'deep')).next(), {
    code: 'FILE_UNREADABLE',
    message: /it is a folder/,
  });
});
