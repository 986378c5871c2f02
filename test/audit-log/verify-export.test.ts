/** An exported audit log outside of the link: every way to change it is detected, and named. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import {
  encodeCheckpoint,
  encodeStatement,
  findCheckpoint,
  signCheckpoint,
  verifyCheckpoint,
  type Checkpoint,
} from '../../src/audit-log/checkpoint.js';
import {
  encodeEntry,
  findEntry,
  firstPrevious,
  hashEntry,
  type AuditEntry,
} from '../../src/audit-log/entry.js';
import {
  encodeDamaged,
  encodeHeader,
  maxLineLength,
  parseExportLine,
} from '../../src/audit-log/export-line.js';
import { linkParty, partyKinds } from '../../src/audit-log/party.js';
import { verifyExport, type ExportReport, type VerifyOptions } from '../../src/audit-log/verify-export.js';
import { generatePrivateKey, toSpkiPem, type PrivateKey } from '../../src/identity/private-key.js';
import { verifyChain } from '../harness/audit-chain.js';
import { userParty } from '../harness/parties.js';
import { createHashList } from '../../src/audit-log/chain.js';

const key = generatePrivateKey('P-256');
const otherKey = generatePrivateKey('P-256');
const trustDomain = 'fleet.example';
const tenant = 'default';

type Told = Omit<AuditEntry, 'seq' | 'previous' | 'hash'>;

const told = (seq: number): Told => ({
  at: 1000 + seq,
  type: seq % 2 === 0 ? 'node.registered' : 'user.login',
  subject: `subject ${seq}`,
  // Every third entry is from before parties had kinds.
  by: seq % 3 === 1 ? 'anna' : userParty('anna'),
  ...(seq % 3 === 0 && { address: '10.0.0.1', requestId: `r${seq}`, outcome: 'refused' }),
  detail: { seq },
});

/** Entries as the link chains them; `from` may be in the middle of a log. */
function chain(count: number, tell: (seq: number) => Told = told): AuditEntry[] {
  const entries: AuditEntry[] = [];
  for (let seq = 1; seq <= count; seq += 1) {
    const entry = { seq, ...tell(seq), previous: entries.at(-1)?.hash ?? firstPrevious };
    entries.push({ ...entry, hash: hashEntry(entry) });
  }
  return entries;
}

const pick = <T>(items: readonly T[], index: number): T => {
  const item = items[index];
  if (item === undefined) throw new Error(`no item ${index}`);
  return item;
};

function checkpointOf(entries: readonly AuditEntry[], seq: number, by: PrivateKey = key): Checkpoint {
  const { hash } = pick(entries, seq - 1);
  return signCheckpoint(by, { trustDomain, tenant, seq, hash, at: 5000 + seq });
}

const header = (from: number, to: number, by: PrivateKey = key) =>
  encodeHeader({ tenant, trustDomain, publicKeyPem: toSpkiPem(by.publicKey), from, to });

const log = chain(10);
const checkpoints = [checkpointOf(log, 4), checkpointOf(log, 8)];
const lines: readonly string[] = [
  header(1, 10),
  ...log.map(encodeEntry),
  ...checkpoints.map(encodeCheckpoint),
];
/** The line of entry `seq`. */
const lineOf = (seq: number): string => pick(lines, seq);
const kept = checkpointOf(log, 8);

const kinds = ({ problems }: ExportReport) => problems.map(({ kind }) => kind);
const verify = (changed: Iterable<string>, options?: VerifyOptions) => verifyExport(changed, options);

void t.test('a complete export verifies, and names the newest checkpoint and its key', async t => {
  t.match(await verify(lines), {
    ok: true,
    tenant,
    trustDomain,
    entries: 10,
    first: 1,
    last: 10,
    key: { fingerprint: key.publicKey.fingerprint, source: 'export' },
    checkpoints: [
      { seq: 4, finding: 'holds' },
      { seq: 8, finding: 'holds' },
    ],
    kept: undefined,
    vouchedTo: 8,
    problems: [],
  });
  const against = await verify(lines, { keptCheckpoint: kept });
  t.match(against, {
    ok: true,
    key: { source: 'kept checkpoint' },
    kept: { finding: 'holds' },
    vouchedTo: 8,
  });
  const publicKeyPem = toSpkiPem(key.publicKey);
  t.match(await verify(lines, { publicKeyPem }), { ok: true, key: { source: 'given' } });
  t.match(await verify([header(1, 0)]), { ok: true, entries: 0, first: 0, last: 0, vouchedTo: 0 });
  t.ok(
    (await verify([...lines.map(line => `${line}\r`), ''])).ok,
    'line ends of another system are forgiven',
  );
  async function* later() {
    for (const line of lines) yield await Promise.resolve(line);
  }
  t.ok((await verifyExport(later())).ok);
});

void t.test('an edit of any field of any entry is detected', async t => {
  const changes: Partial<AuditEntry>[] = [
    { at: 1 },
    { type: 'node.revoked' },
    { subject: 'x' },
    { by: 'mallory' },
    { address: '10.9.9.9' },
    { requestId: 'other' },
    { outcome: 'failed' },
    { outcome: 'done' },
    { detail: {} },
    { detail: { seq: '6' } },
    { previous: firstPrevious },
    { hash: firstPrevious },
  ];
  for (const change of changes) {
    for (const seq of [1, 5, 6, 10]) {
      const before = pick(log, seq - 1);
      const line = encodeEntry({ ...before, ...change });
      if (line === lineOf(seq)) continue;
      const report = await verify(lines.with(seq, line));
      t.match(report.problems[0], { kind: 'changed', seq }, `${JSON.stringify(change)} at ${seq}`);
      t.match(report.problems[0]?.sentence, `entry ${seq} was changed`);
    }
  }
  const { seq, at, type, subject, by, detail, previous, hash } = pick(log, 5);
  const bare = { seq, at, type, subject, by, detail, previous, hash };
  t.match((await verify(lines.with(6, encodeEntry(bare)))).problems[0], { kind: 'changed', seq: 6 });
});

void t.test('an edited entry with a new hash is detected at the next entry', async t => {
  const edited = { ...pick(log, 4), by: 'mallory' };
  const line = encodeEntry({ ...edited, hash: hashEntry(edited) });
  t.match((await verify(lines.with(5, line))).problems[0], {
    kind: 'changed',
    seq: 6,
    sentence: 'entry 6 was changed, or the one before it: it does not hold the hash of that one',
  });
});

void t.test('a rewritten log does not match its checkpoints', async t => {
  const forged = chain(10, seq => ({ ...told(seq), ...(seq === 6 && { by: 'mallory' }) }));
  const withOld = [header(1, 10), ...forged.map(encodeEntry), ...checkpoints.map(encodeCheckpoint)];
  t.match(await verify(withOld), {
    ok: false,
    vouchedTo: 4,
    checkpoints: [{ finding: 'holds' }, { finding: 'rewritten' }],
    problems: [
      { kind: 'rewritten', seq: 8, sentence: /^entry 8 is not the one the checkpoint of entry 8 is of/ },
    ],
  });
  const without = withOld.slice(0, -1);
  t.ok((await verify(without)).ok, 'without the checkpoint nobody can tell');
  t.match((await verify(without, { keptCheckpoint: kept })).problems, [
    { kind: 'rewritten', seq: 8, sentence: /the checkpoint that was kept is of/ },
  ]);
});

void t.test('deleted entries are detected', async t => {
  const one = await verify(lines.toSpliced(5, 1));
  t.match(one.problems, [
    { kind: 'missing', seq: 5, sentence: 'entry 5 is missing: the next one is entry 6' },
  ]);
  const some = await verify(lines.toSpliced(5, 3));
  t.match(some.problems[0], { kind: 'missing', seq: 5, sentence: /^entries 5 to 7 are missing/ });
  const renumbered = log.toSpliced(4, 1).map((entry, index) => encodeEntry({ ...entry, seq: index + 1 }));
  t.match((await verify([header(1, 9), ...renumbered])).problems[0], { kind: 'changed', seq: 5 });
  const head = await verify(lines.toSpliced(1, 2));
  t.match(head.problems[0], { kind: 'missing', seq: 1, sentence: /^entries 1 to 2 are missing/ });
});

void t.test('reordered entries are detected', async t => {
  const swapped = lines.with(5, lineOf(6)).with(6, lineOf(5));
  t.match((await verify(swapped)).problems, [{ kind: 'reordered', seq: 5 }]);
  const toTheEnd = [...lines.toSpliced(3, 1).slice(0, 10), lineOf(3), ...lines.slice(11)];
  t.match((await verify(toTheEnd)).problems, [{ kind: 'reordered', seq: 3 }]);
  const afterCheckpoints = [...lines.toSpliced(10, 1), lineOf(10)];
  t.strictSame(kinds(await verify(afterCheckpoints)), ['truncated', 'damaged']);
});

void t.test('duplicated and misplaced entries are detected', async t => {
  const twice = lines.toSpliced(5, 0, lineOf(5));
  t.match((await verify(twice)).problems, [{ kind: 'duplicated', seq: 5 }]);
  const later = lines.toSpliced(9, 0, lineOf(2));
  t.match((await verify(later)).problems, [{ kind: 'duplicated', seq: 2 }]);
  const invented = { ...pick(log, 1), by: 'mallory' };
  const inserted = lines.toSpliced(9, 0, encodeEntry({ ...invented, hash: hashEntry(invented) }));
  t.match((await verify(inserted)).problems, [
    { kind: 'out of order', seq: 2, sentence: 'entry 2 is out of order: it stands where entry 9 belongs' },
  ]);
  const onlyHash = lines.toSpliced(9, 0, encodeEntry(invented));
  t.match(
    (await verify(onlyHash)).problems[0],
    { kind: 'out of order', seq: 2 },
    'a copy with other content',
  );
});

void t.test('truncation of an export shows by its header, its newest checkpoint, or a kept one', async t => {
  const cut = (count: number) => log.slice(0, count).map(encodeEntry);
  t.match((await verify([...lines.slice(0, 10)])).problems, [
    {
      kind: 'truncated',
      seq: 10,
      sentence: /ends at entry 9, its header says entry 10; entry 10 is missing$/,
    },
  ]);
  t.match((await verify([header(1, 6), ...cut(6), ...checkpoints.map(encodeCheckpoint)])).problems, [
    {
      kind: 'truncated',
      seq: 7,
      sentence: /its newest checkpoint is of entry 8; entries 7 to 8 are missing$/,
    },
  ]);
  const neat = [header(1, 6), ...cut(6), encodeCheckpoint(pick(checkpoints, 0))];
  t.match(
    await verify(neat),
    { ok: true, vouchedTo: 4 },
    'cut with care, it shows only against what was kept',
  );
  t.match((await verify(neat, { keptCheckpoint: kept })).problems, [
    {
      kind: 'truncated',
      seq: 7,
      sentence: /the checkpoint that was kept is of entry 8; entries 7 to 8 are missing$/,
    },
  ]);
  t.match((await verify([header(1, 0)], { keptCheckpoint: kept })).problems, [{ kind: 'truncated', seq: 1 }]);
  const longer = await verify(lines.with(0, header(1, 7)));
  t.match(longer.problems, [
    { kind: 'bad header', sentence: /says entry 7 is the last; there are later ones/ },
  ]);
});

void t.test(
  'an export that begins later verifies when its header says so and a checkpoint covers the rest',
  async t => {
    const trimming = (to: number): Told => ({
      ...{ at: 1, type: 'audit.trimmed', subject: '', by: linkParty, detail: { from: 1, to } },
    });
    const partOf = (entries: readonly AuditEntry[], ...checkpoints: Checkpoint[]) => [
      header(5, 10),
      ...entries.slice(4).map(encodeEntry),
      ...checkpoints.map(encodeCheckpoint),
    ];
    const whole = chain(10, seq => (seq === 9 ? trimming(4) : told(seq)));
    const of = (seq: number, by = key) => checkpointOf(whole, seq, by);
    const part = (...checkpoints: Checkpoint[]) => partOf(whole, ...checkpoints);
    const trimmed = await verify(part(of(2), of(4), of(8)));
    t.match(trimmed, { ok: true, trimmedTo: 4, first: 5, vouchedTo: 8 });
    const found = trimmed.checkpoints.map(({ seq, finding }) => `${seq} ${finding}`);
    t.strictSame(found, ['2 not compared', '4 holds', '8 holds']);

    const missing = {
      kind: 'missing',
      seq: 1,
      sentence: /^entries 1 to 4 are missing, and no checkpoint of entry 4/,
    };
    t.match(
      await verify(part(of(8))),
      { ok: false, trimmedTo: 0, problems: [missing] },
      'no checkpoint of it',
    );
    t.match(await verify(part(of(3), of(8))), { ok: false, problems: [missing] }, 'of another entry');
    const byOther = of(4, otherKey);
    t.match(await verify(part(byOther, of(8))), { ok: false, problems: [missing] }, 'by another key');
    const unsigned = { ...of(4), at: 7 };
    t.match((await verify(part(unsigned, of(8)))).problems, [missing, { kind: 'bad signature', seq: 4 }]);
    const forged = chain(10, seq => ({ ...told(seq), by: 'mallory' }));
    const { problems } = await verify(part(checkpointOf(forged, 4), of(8)));
    t.match(
      problems,
      [missing, { kind: 'rewritten', seq: 4 }],
      'of an entry that the first one does not follow',
    );

    const untold = await verify(partOf(log, checkpointOf(log, 4), kept));
    t.match(untold.problems, [
      { kind: 'missing', sentence: /the log tells of none that its link took away/ },
    ]);
    const less = chain(10, seq => (seq === 9 ? trimming(3) : told(seq)));
    t.match((await verify(partOf(less, checkpointOf(less, 4)))).problems, [
      { sentence: /only of entries up to 3/ },
    ]);
    const byUser = chain(10, seq => (seq === 9 ? { ...trimming(4), by: userParty('link') } : told(seq)));
    t.match(await verify(partOf(byUser, checkpointOf(byUser, 4))), { ok: false }, 'a user cannot say so');

    t.match(await verify(part(of(8)), { keptCheckpoint: of(4) }), { ok: true, trimmedTo: 4 });
    const older = { keptCheckpoint: of(2) };
    t.match(await verify(part(of(4), of(8)), older), { ok: true, kept: { finding: 'not compared' } });
    const forgedPart = partOf(forged, of(4));
    t.match((await verify(forgedPart, { keptCheckpoint: of(4) })).problems[0], { kind: 'changed', seq: 5 });
  },
);

void t.test('checkpoints by another key, of another log, or altered are reported', async t => {
  const foreign = [...lines.slice(0, 11), encodeCheckpoint(checkpointOf(log, 10, otherKey))];
  t.match(await verify(foreign), {
    ok: false,
    vouchedTo: 0,
    problems: [{ kind: 'other key', seq: 10, sentence: new RegExp('by another key, SHA256:') }],
  });
  const earlier = [
    ...lines.slice(0, 11),
    encodeCheckpoint(checkpointOf(log, 4, otherKey)),
    ...lines.slice(12),
  ];
  t.match(
    await verify(earlier),
    { ok: true, checkpoints: [{ finding: 'other key' }, { finding: 'holds' }] },
    'where a later one holds, it takes nothing away',
  );
  const forgery = [
    header(1, 10, otherKey),
    ...lines.slice(1, 11),
    encodeCheckpoint(checkpointOf(log, 10, otherKey)),
  ];
  t.ok((await verify(forgery)).ok, 'signed with a key of its own it looks whole');
  t.strictSame(kinds(await verify(forgery, { publicKeyPem: toSpkiPem(key.publicKey) })), ['other key']);
  t.strictSame(kinds(await verify(forgery, { keptCheckpoint: kept })), ['other key']);
  const both = await verify(lines, { keptCheckpoint: kept, publicKeyPem: toSpkiPem(otherKey.publicKey) });
  t.match(both, { ok: false, kept: { finding: 'other key' }, vouchedTo: 0 });

  const changes: Partial<Checkpoint>[] = [{ at: 1 }, { seq: 7, hash: pick(log, 6).hash }];
  for (const change of changes) {
    const line = encodeCheckpoint({ ...kept, ...change });
    t.strictSame(
      kinds(await verify([...lines.slice(0, 12), line])),
      ['bad signature'],
      JSON.stringify(change),
    );
    t.strictSame(kinds(await verify(lines, { keptCheckpoint: { ...kept, ...change } })), ['bad signature']);
  }
  for (const change of [{ tenant: 'other' }, { trustDomain: 'other' }]) {
    const line = encodeCheckpoint({ ...kept, ...change });
    t.strictSame(kinds(await verify([...lines.slice(0, 12), line])), ['other log'], JSON.stringify(change));
  }
  await t.rejects(verify(lines, { publicKeyPem: 'nonsense' }), { code: 'KEY_UNSUPPORTED' });
  const large = generatePrivateKey('P-384');
  await t.rejects(verify(lines, { publicKeyPem: toSpkiPem(large.publicKey) }), { code: 'KEY_UNSUPPORTED' });
});

void t.test('members that no hash covers are refused', async t => {
  const entry = lineOf(5);
  const spellings = [
    entry.replace('{', '{"note":"approved by the board",'),
    entry.replace('"by":', '"by":"nobody","by":'),
    entry.replace('"by":', '"by": '),
    entry.replace('anna', '\\u0061nna'),
    ` ${entry}`,
  ];
  for (const spelling of spellings) {
    const report = await verify(lines.with(5, spelling));
    t.match(
      report.problems[0],
      { kind: 'damaged', seq: 5, sentence: /not spelled as the link spells it/ },
      spelling,
    );
  }
  const extra = lines.with(12, pick(lines, 12).replace('{', '{"x":1,'));
  t.match((await verify(extra)).problems, [{ kind: 'damaged', sentence: /^line 13 is not spelled/ }]);
});

void t.test('damaged lines, long lines and lone surrogates are reported', async t => {
  const bad = [
    '{',
    'null',
    '[]',
    '7',
    '"x"',
    lineOf(5).slice(0, 40),
    '\ufffd',
    '\ud800',
    `{"seq":5,"by":"\ud800"}`,
    'x'.repeat(maxLineLength + 1),
    `{"by":"${'x'.repeat(maxLineLength)}"}`,
    '['.repeat(100_000),
    `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    '{"__proto__":{"seq":5}}',
    encodeDamaged(Buffer.from('\u0000\n')),
    lineOf(5).replace('"seq":5', '"seq":5e999'),
    lineOf(5).replace('"detail":{"seq":5}', '"detail":{"seq":1e999}'),
    lineOf(5).replace('"detail":{"seq":5}', '"detail":{"seq":{}}'),
    lineOf(5).replace('"anna"', 'null'),
  ];
  for (const line of bad) {
    const report = await verify(lines.with(5, line));
    t.match(
      report.problems[0],
      { kind: 'damaged', seq: 5, sentence: /^entry 5 cannot be read: line 6 is/ },
      line.slice(0, 60),
    );
  }
  t.strictSame(kinds(await verify([...lines, ...bad.slice(0, 3)])), ['damaged', 'damaged', 'damaged']);
  t.equal(
    (await verify([...lines, ...Array<string>(50).fill('{')])).problems.length,
    10,
    'told ten times at the most',
  );
  for (const none of [
    [],
    [''],
    ['{'],
    lines.slice(1),
    [lineOf(1)],
    [header(1, 1).replace('"from":1', '"from":0')],
  ]) {
    t.match(await verify(none), { ok: false, entries: 0, problems: [{ kind: 'bad header' }] });
  }
  const keyless = lines.with(0, encodeHeader({ tenant, trustDomain, publicKeyPem: 'x', from: 1, to: 10 }));
  t.strictSame(kinds(await verify(keyless)), ['bad header', 'other key']);
  const anything = fc.oneof(fc.string({ unit: 'binary' }), fc.json(), fc.constantFrom(...lines));
  await fc.assert(
    fc.asyncProperty(fc.array(anything, { maxLength: 20 }), async some => {
      await verify(some);
      await verify([pick(lines, 0), ...some], { keptCheckpoint: kept });
    }),
    { numRuns: 40 },
  );
});

void t.test('a change of any character of an export is detected', async t => {
  const whole = lines.join('\n');
  await fc.assert(
    fc.asyncProperty(
      fc.nat(whole.length - 1),
      fc.string({ minLength: 1, maxLength: 1 }),
      async (at, character) => {
        if (whole[at] === character || at < lineOf(0).length) return;
        const changed = whole.slice(0, at) + character + whole.slice(at + 1);
        const report = await verify(changed.split('\n'), { keptCheckpoint: kept });
        const isWhole = report.ok && report.checkpoints.every(({ finding }) => finding === 'holds');
        t.notOk(isWhole && report.checkpoints.length === 2, `${character} at ${at}`);
      },
    ),
    { numRuns: 300 },
  );
});

void t.test('any text of an entry is written on one line and read back the same', t => {
  const nasty = 'x\n{"seq":9}\r\u001b[2J\u2028\u202e\u0000\u0085\ud800"\\';
  const value = fc.oneof(fc.string({ unit: 'binary' }), fc.constant(nasty), fc.boolean(), fc.integer());
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.constant(nasty));
  const entry = fc.record({
    at: fc.nat(),
    type: text,
    subject: text,
    by: fc.oneof(text, fc.record({ kind: fc.constantFrom(...partyKinds), id: text, name: text })),
    address: text,
    requestId: text,
    outcome: fc.constantFrom('done', 'refused', 'failed'),
    detail: fc.dictionary(fc.oneof(text, fc.constant('__proto__'), fc.constant('7')), value),
  });
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 4 }), some => {
      const entries = chain(some.length, seq => pick(some, seq - 1));
      for (const each of entries) {
        const line = encodeEntry(each);
        t.notMatch(line, /[\n\r]/);
        const parsed = parseExportLine(line);
        t.equal(parsed.type === 'entry' && hashEntry(parsed.entry), each.hash);
      }
      t.equal(verifyChain(entries), undefined);
    }),
  );
  t.end();
});

void t.test('the hash covers the documented text, and tells absent members from empty ones', t => {
  const detail = { b: 1, a: 'x' };
  const old = { seq: 2, at: 3, type: 't', subject: 's', by: 'me', detail, previous: 'ab' };
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  t.equal(hashEntry(old), sha256('["rollcall audit v1",2,3,"t","s","me",[["a","x"],["b",1]],"ab"]'));
  const full = { ...old, address: '10.0.0.1', requestId: 'r', outcome: 'refused' } as const;
  t.equal(
    hashEntry(full),
    sha256('["rollcall audit v2",2,3,"t","s","me","10.0.0.1","r","refused",[["a","x"],["b",1]],"ab"]'),
  );
  t.equal(
    hashEntry({ ...old, outcome: 'failed' }),
    sha256('["rollcall audit v2",2,3,"t","s","me",null,null,"failed",[["a","x"],["b",1]],"ab"]'),
  );
  const variants = [
    {},
    { address: '' },
    { requestId: '' },
    { address: 'r' },
    { requestId: 'r' },
    { outcome: 'done' as const },
  ];
  t.equal(new Set(variants.map(each => hashEntry({ ...old, ...each }))).size, variants.length);
  t.equal(findEntry({ ...pick(log, 0), outcome: 'perhaps' }), undefined);
  const by = { kind: 'user', id: 'user:ab', name: 'ann' } as const;
  t.equal(
    hashEntry({ ...full, by }),
    sha256(
      '["rollcall audit v3",2,3,"t","s",["user","user:ab","ann"],"10.0.0.1","r","refused",[["a","x"],["b",1]],"ab"]',
    ),
  );
  t.equal(
    hashEntry({ ...old, by }),
    sha256(
      '["rollcall audit v3",2,3,"t","s",["user","user:ab","ann"],null,null,null,[["a","x"],["b",1]],"ab"]',
    ),
  );
  for (const odd of [{ ...by, kind: 'god' }, { ...by, id: 7 }, { kind: 'user' }, [], null, 7])
    t.equal(findEntry({ ...pick(log, 0), by: odd }), undefined, JSON.stringify(odd));
  t.equal(findEntry({ ...pick(log, 0), address: 7 }), undefined);
  t.end();
});

void t.test('a checkpoint signs the documented bytes, with every field', async t => {
  const checkpoint = signCheckpoint(key, {
    trustDomain: 'é',
    tenant: 't',
    seq: 258,
    hash: 'ab'.repeat(32),
    at: 1,
  });
  const { fingerprint } = key.publicKey;
  const wanted = [
    ['00000016', Buffer.from('rollcall checkpoint v1').toString('hex')],
    ['00000002', 'c3a9'],
    ['00000001', '74'],
    ['00000008', '0000000000000102'],
    ['00000020', 'ab'.repeat(32)],
    ['00000008', '0000000000000001'],
    ['00000032', Buffer.from(fingerprint).toString('hex')],
  ];
  t.equal(encodeStatement(checkpoint).toString('hex'), wanted.flat().join(''));
  t.ok(await verifyCheckpoint(checkpoint, key.publicKey));
  t.notOk(await verifyCheckpoint(checkpoint, otherKey.publicKey));
  t.notOk(
    await verifyCheckpoint(
      { ...checkpoint, keyFingerprint: otherKey.publicKey.fingerprint },
      otherKey.publicKey,
    ),
  );
  const changes: Partial<Checkpoint>[] = [
    { trustDomain: 'e' },
    { tenant: 'u' },
    { trustDomain: 'ét', tenant: '' },
    { seq: 1 },
    { hash: 'aa'.repeat(32) },
    { at: 2 },
    { signature: Buffer.alloc(70).toString('base64') },
  ];
  for (const change of changes) {
    t.notOk(await verifyCheckpoint({ ...checkpoint, ...change }, key.publicKey), JSON.stringify(change));
  }
  t.strictSame(findCheckpoint(JSON.parse(encodeCheckpoint(checkpoint))), checkpoint);
  const unfit: object[] = [
    { version: 2 },
    { seq: 0 },
    { seq: 1.5 },
    { hash: 'AB'.repeat(32) },
    { at: -1 },
    { tenant: '\ud800' },
    { signature: '\n' },
    { signature: 'A'.repeat(500) },
    { signature: `${'A'.repeat(94)}B=` },
  ];
  for (const change of unfit)
    t.equal(findCheckpoint({ ...checkpoint, ...change }), undefined, JSON.stringify(change));
});

void t.test('a list of hashes returns what was added, across its blocks', t => {
  const list = createHashList(5);
  const hashOf = (seq: number) => createHash('sha256').update(String(seq)).digest('hex');
  for (let seq = 5; seq < 10_000; seq += 1) list.add(hashOf(seq));
  for (const seq of [5, 4100, 4101, 9999]) t.equal(list.at(seq), hashOf(seq));
  for (const seq of [4, 0, -1, 10_000]) t.equal(list.at(seq), undefined);
  t.end();
});
