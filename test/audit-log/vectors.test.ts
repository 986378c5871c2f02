/** The vectors of docs/audit-log.md, by this implementation and by python/rollcall_audit.py, which shares none of its code. */
import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { encodeStatement, verifyCheckpoint, type Checkpoint } from '../../src/audit-log/checkpoint.js';
import { encodeEntry, hashEntry } from '../../src/audit-log/entry.js';
import { parseExportLine } from '../../src/audit-log/export-line.js';
import { verifyExport } from '../../src/audit-log/verify-export.js';
import { readPublicKey } from '../../src/identity/key-file.js';

const root = join(import.meta.dirname, '../..');
const vectorFile = join(root, 'docs/vectors/audit-log.json');
const script = join(root, 'python/rollcall_audit.py');

interface Expected {
  readonly ok: boolean;
  readonly first: number;
  readonly last: number;
  readonly trimmedTo: number;
  readonly vouchedTo: number;
  readonly problem: string | null;
}

const vectors = JSON.parse(readFileSync(vectorFile, 'utf8')) as {
  readonly key: { readonly publicKeyPem: string; readonly fingerprint: string };
  readonly entries: readonly { readonly line: string; readonly hashed: string; readonly hash: string }[];
  readonly checkpoints: readonly { checkpoint: Checkpoint; signed: string; valid: boolean }[];
  readonly exports: readonly { name: string; lines: readonly string[]; expected: Expected }[];
};

const runs = (program: string, argument: string): boolean => spawnSync(program, [argument]).status === 0;
const skip = runs('python3', '--version')
  ? runs('openssl', 'version')
    ? false
    : 'there is no openssl here, which checks the signatures for Python'
  : 'there is no python3 here';

void t.test('entries are hashed and written as the lines of the vectors', t => {
  for (const { line, hashed, hash } of vectors.entries) {
    t.equal(createHash('sha256').update(hashed).digest('hex'), hash, hashed);
    const parsed = parseExportLine(line);
    if (parsed.type !== 'entry') throw new Error(`not an entry: ${line}`);
    t.equal(hashEntry(parsed.entry), hash, line);
    t.equal(encodeEntry(parsed.entry), line);
  }
  t.end();
});

void t.test(
  'checkpoints are signed over the bytes of the vectors, with the key of the stated fingerprint',
  async t => {
    const key = readPublicKey(Buffer.from(vectors.key.publicKeyPem));
    t.equal(key.fingerprint, vectors.key.fingerprint);
    for (const { checkpoint, signed, valid } of vectors.checkpoints) {
      t.equal(encodeStatement(checkpoint).toString('hex'), signed);
      t.equal(await verifyCheckpoint(checkpoint, key), valid);
    }
  },
);

void t.test('exports of the vectors verify with the stated result', async t => {
  for (const { name, lines, expected } of vectors.exports) {
    const { ok, first, last, trimmedTo, vouchedTo, problems } = await verifyExport(lines);
    const found = { ok, first, last, trimmedTo, vouchedTo, problem: problems[0]?.kind ?? null };
    t.strictSame(found, expected, name);
  }
});

void t.test('Python and TypeScript find the same in the vectors', { skip }, t => {
  const { status, stdout, stderr } = spawnSync('python3', ['-B', '-c', runVectors, root, vectorFile], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  const found = JSON.parse(stdout) as {
    entries: string[][];
    signed: string[];
    fingerprint: string;
    reports: Expected[];
  };
  t.equal(found.fingerprint, vectors.key.fingerprint);
  t.strictSame(
    found.entries,
    vectors.entries.map(({ line, hash }) => [line, hash]),
  );
  t.strictSame(
    found.signed,
    vectors.checkpoints.map(({ signed }) => signed),
  );
  for (const [index, { name, expected }] of vectors.exports.entries()) {
    const report = found.reports[index];
    t.equal(report?.ok, expected.ok, `${name}: ${JSON.stringify(report)}`);
    if (!expected.ok) continue;
    const { first, last, trimmedTo, vouchedTo } = expected;
    t.match(report, { trimmedTo, vouchedTo, ...(last > 0 && { first, last }) }, name);
  }
  t.end();
});

const runVectors = `
import json, sys
sys.path.insert(0, sys.argv[1] + "/python")
import rollcall_audit as audit
with open(sys.argv[2], encoding="utf-8") as file:
    vectors = json.load(file)
parsed = [audit.parse_line(each["line"]) for each in vectors["entries"]]
print(json.dumps({
    "fingerprint": audit.fingerprint_of(vectors["key"]["publicKeyPem"]),
    "entries": [[audit.spell(each), audit.hash_entry(each)] for each in parsed],
    "signed": [audit.statement_of(each["checkpoint"]).hex() for each in vectors["checkpoints"]],
    "reports": [audit.verify(each["lines"]) for each in vectors["exports"]],
}))
`;

void t.test('the exit code of rollcall_audit.py states the result of an export', { skip }, async t => {
  const folder = t.testdir();
  const run = async (index: number, ...more: string[]) => {
    const path = join(folder, `${index}.jsonl`);
    await writeFile(path, (vectors.exports[index]?.lines ?? []).map(line => `${line}\n`).join(''));
    return spawnSync('python3', ['-B', script, path, ...more], { encoding: 'utf8' });
  };
  const whole = await run(0);
  t.equal(whole.status, 0, whole.stderr);
  t.match(JSON.parse(whole.stdout), { ok: true, last: 10, signatures: 'checked', problems: [] });
  const cut = await run(10);
  t.equal(cut.status, 1);
  t.match(JSON.parse(cut.stdout), { problems: [/^the log was cut: it ends at entry 8, not 10/] });
  const kept = join(folder, 'kept.json');
  await writeFile(kept, JSON.stringify(vectors.checkpoints[0]?.checkpoint));
  t.equal((await run(3, '--checkpoint', kept)).status, 0);
  t.equal((await run(11, '--checkpoint', kept)).status, 1);
  t.equal(spawnSync('python3', ['-B', script, join(folder, 'nothing')]).status, 2);
});
