/** The pure half of the command: text made harmless, widths, tables, moments, durations, JSON, arguments, exit codes. */
import t from 'tap';
import { isRollcallError, RollcallError, errorCodes } from '../../src/base/errors.js';
import { exitCodeOf } from '../../src/cli/failure.js';
import { formatRfc3339 } from '../../src/base/rfc3339.js';
import {
  formatElapsed,
  formatLabels,
  formatMicroseconds,
  formatMoment,
  toJson,
} from '../../src/cli/format.js';
import { forgiveFederation, parseLabels, parseLimit, parseStatuses } from '../../src/cli/nodes/arguments.js';
import { pages } from '../../src/cli/nodes/with-link.js';
import { nodeColumns, nodeRow } from '../../src/cli/nodes/list.js';
import { nodeJson } from '../../src/protocol/node-json.js';
import { createTable, formatTable } from '../../src/cli/table.js';
import { plainText } from '../../src/base/text.js';
import { displayWidth, isTerminal, noPaint, paintFor, type Output } from '../../src/cli/terminal.js';
import { NodeStatus } from '../../src/protocol/generated/rollcall/v1/control.js';
import { day, makeNode, noon } from './fixtures/control-server.js';
import { Kept } from './fixtures/shell.js';
import { StatedByLink } from '../../src/control-client/diagnosis.js';

const boxed = { box: true, paint: noPaint };
const plain = { box: false, paint: noPaint };

void t.test('the table of nodes on a terminal matches to the character', t => {
  const nodes = [
    makeNode({
      id: 16019329408659850374n,
      name: 'press-3',
      status: NodeStatus.NODE_STATUS_ONLINE,
      sinceMs: BigInt(noon - 3_723_000),
    }),
    makeNode({ id: 8392976743692794070n }),
    makeNode({
      id: 42n,
      owner: 'ada',
      status: NodeStatus.NODE_STATUS_OFFLINE,
      sinceMs: BigInt(noon - 60_000),
    }),
  ];
  const rows = nodes.map(node => nodeRow(node, noon, false));
  t.equal(
    formatTable(nodeColumns(false), rows, boxed),
    `
┏━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━┓
┃       Node ID        ┃  Name   ┃ Owner  ┃ Status  ┃ Elapsed  ┃   Status Changed @   ┃
┡━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━┩
│ 16019329408659850374 │ press-3 │ <none> │ online  │ 01:02:03 │ 2026-01-15 10:57:57Z │
│ 8392976743692794070  │         │ <none> │ created │          │ N/A                  │
│ 42                   │         │ ada    │ offline │ 00:01:00 │ 2026-01-15 11:59:00Z │
└──────────────────────┴─────────┴────────┴─────────┴──────────┴──────────────────────┘
`.slice(1),
  );
  t.end();
});

void t.test('piped columns are two spaces apart and have no empty cell', t => {
  const rows = [
    nodeRow(makeNode({ labels: { site: 'x  y' } }), noon, true),
    nodeRow(makeNode({ name: 'n', labels: { b: '2', a: '1' } }), noon, true),
  ];
  const text = formatTable(nodeColumns(true), rows, plain);
  const lines = text.trimEnd().split('\n');
  t.same(
    lines.map(line => line.split(/ {2,}/).length),
    [9, 9, 9],
  );
  t.same(lines[1]?.split(/ {2,}/), [
    '1',
    '-',
    '<none>',
    'created',
    '-',
    'N/A',
    'registered',
    '-',
    'site=x y',
  ]);
  t.match(lines[2], /a=1, b=2$/);
  t.notMatch(text, / \n/, 'no space at the end of a line');
  t.end();
});

void t.test('tables are aligned for every width of text', t => {
  const columns = [{ header: 'A' }, { header: 'Long header' }];
  const rows = [
    ['日本語', '✅ done'],
    ['e\u0301', ''],
    ['plain', 'a much longer text than the header'],
  ];
  const widths = formatTable(columns, rows, boxed).trimEnd().split('\n').map(displayWidth);
  t.equal(new Set(widths).size, 1, 'every line of the box is as wide');
  t.equal(formatTable(columns, [], boxed).split('\n').length, 5, 'without rows there is a head and a foot');
  t.equal(formatTable(columns, [], plain), 'A  Long header\n');
  t.end();
});

void t.test('a table on a terminal is never wider than the terminal', t => {
  const columns = [
    { header: 'ID' },
    { header: 'Name', clipTo: 5 },
    { header: 'Owner', dropRank: 2 },
    { header: 'Elapsed', dropRank: 1 },
  ];
  const rows = [['16019329408659850374', '日本語の長い名前', 'ada', '00:00:01']];
  const widthOf = (text: string) => Math.max(...text.split('\n').map(displayWidth));
  const whole = widthOf(formatTable(columns, rows, boxed));
  for (let maxWidth = 34; maxWidth <= whole; maxWidth += 1) {
    const table = createTable(columns, rows, { ...boxed, maxWidth });
    const text = table.head() + table.rows(rows) + table.foot();
    t.ok(widthOf(text) <= maxWidth, `${maxWidth}: ${widthOf(text)}`);
    t.match(text, '16019329408659850374', 'an id is never cut');
    const left = maxWidth < 38 + 3 ? ['Owner', 'Elapsed'] : ['Elapsed'];
    if (table.leftOut.length > 0) t.same(table.leftOut, left.slice(-table.leftOut.length), `${maxWidth}`);
  }
  t.same(createTable(columns, rows, { ...boxed, maxWidth: 34 }).leftOut, ['Owner', 'Elapsed']);
  t.match(createTable(columns, rows, { ...boxed, maxWidth: 34 }).rows(rows), /│ 日本語… │/);
  t.match(formatTable(columns, rows, { ...boxed, maxWidth: whole - 1 }), /│ 日本語の長い名… │ ada/);
  t.equal(formatTable(columns, rows, { ...boxed, maxWidth: whole }), formatTable(columns, rows, boxed));
  const narrow = formatTable([{ header: 'ID' }], [['16019329408659850374']], { ...boxed, maxWidth: 10 });
  t.match(narrow, '16019329408659850374', 'what must stay whole is wider than a terminal of 10 columns');
  const later = createTable(columns, [['1', 'a', 'b', 'c']], { ...boxed, maxWidth: 50 }, false);
  t.ok(widthOf(later.rows(rows)) <= 50, 'a later, wider row is cut too');
  t.end();
});

void t.test('a table printed in parts keeps its widths, leaves room, and cuts nothing off', t => {
  const columns = [{ header: 'Status', roomy: 11 }, { header: 'Name' }];
  const first = [['online', 'a']];
  t.match(createTable(columns, first, plain, true).rows(first), /^online {2}a\n$/);
  const table = createTable(columns, first, plain, false);
  t.equal(table.head(), 'Status       Name\n');
  t.equal(table.rows([['quarantined', 'b']]), 'quarantined  b\n');
  t.match(table.rows([['online', 'longer than the column']]), /longer than the column\n$/);
  t.end();
});

void t.test('control characters in values never reach a terminal', t => {
  t.equal(plainText('\x1b[31mred\x07\u009b2J\r\nnext\u202e\u200bend\u2028x'), '[31mred2J nextend x');
  t.equal(plainText('  a \t b  '), 'a b');
  const text = formatTable([{ header: 'H' }], [['\x1b]0;title\x07']], boxed);
  t.notMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  const json = toJson({ label: '\x1b[2J\u009b\u202e\x7f\u{e0001}ü' });
  t.notMatch(json, /[\x00-\x1f\x7f-\x9f\u202e]/);
  t.same(JSON.parse(json), { label: '\x1b[2J\u009b\u202e\x7f\u{e0001}ü' }, 'JSON reads back the same');
  t.end();
});

void t.test('display width counts the columns that a terminal uses', t => {
  t.equal(displayWidth('abc'), 3);
  t.equal(displayWidth('日本'), 4);
  t.equal(displayWidth('✅'), 2);
  t.equal(displayWidth('e\u0301'), 1);
  t.equal(displayWidth('ü<>'), 3);
  t.end();
});

void t.test('colours appear only on a terminal that supports them, without NO_COLOR', t => {
  const terminal = new Kept(true) as Output;
  const pipe = new Kept(false) as Output;
  t.equal(paintFor(terminal, {})('red', 'x'), '\x1b[31mx\x1b[0m');
  t.equal(
    paintFor(terminal, { NO_COLOR: '' })('red', 'x'),
    '\x1b[31mx\x1b[0m',
    'an empty NO_COLOR counts as unset',
  );
  t.equal(paintFor(terminal, {})(undefined, 'x'), 'x');
  for (const [stream, environment] of [
    [terminal, { NO_COLOR: '1' }],
    [terminal, { TERM: 'dumb' }],
    [pipe, {}],
  ] as const) {
    t.equal(paintFor(stream, environment)('red', 'x'), 'x');
  }
  t.ok(isTerminal(terminal, { NO_COLOR: '1' }), 'without colour a terminal still gets the box');
  t.end();
});

void t.test('durations, elapsed times and timestamps are formatted', t => {
  t.equal(formatElapsed(0), '00:00:00');
  t.equal(formatElapsed(59_999), '00:00:59');
  t.equal(formatElapsed(day - 1), '23:59:59');
  t.equal(formatElapsed(2 * day + 11_045_000), '2d 03:04:05');
  t.equal(formatElapsed(400 * day), '400d 00:00:00');
  t.equal(formatElapsed(-5_000), '00:00:00', 'clocks apart');
  t.equal(formatMoment(BigInt(noon)), '2026-01-15 12:00:00Z');
  t.equal(formatMoment(0n), 'N/A');
  t.equal(formatRfc3339(BigInt(noon) + 7n), '2026-01-15T12:00:00.007Z');
  t.equal(formatRfc3339(0n), undefined);
  t.equal(formatRfc3339(1n << 62n), undefined, 'no date holds it');
  t.equal(formatMicroseconds(420n), '0.42 ms');
  t.equal(formatMicroseconds(3_210n), '3.2 ms');
  t.equal(formatMicroseconds(118_400n), '118 ms');
  t.equal(formatLabels({ b: '2', a: '1\x1b' }), 'a=1, b=2');
  t.end();
});

void t.test('JSON of a node: the id is text, times are RFC 3339, unknown values are null', t => {
  const json = nodeJson(makeNode({ id: 18446744073709551615n, labels: { site: 'a' } }));
  t.equal(json['id'], '18446744073709551615');
  t.equal(json['since'], '2026-01-15T12:00:00.000Z');
  t.equal(json['status'], 'created');
  t.same(json['labels'], { site: 'a' });
  for (const key of ['name', 'owner', 'address', 'agentVersion', 'certificateExpiresAt'])
    t.equal(json[key], null);
  t.end();
});

void t.test('only the app and federation arguments of Flower are dropped', t => {
  t.same(forgiveFederation(['a.pub', '.', 'my-federation']), {
    words: ['a.pub'],
    dropped: '. my-federation',
  });
  t.same(forgiveFederation(['a.pub', '.']), { words: ['a.pub'], dropped: '.' });
  t.same(forgiveFederation(['.']), { words: [], dropped: '.' });
  t.same(forgiveFederation(['a', 'b']), { words: ['a', 'b'], dropped: undefined });
  t.same(forgiveFederation(['.', 'a', 'b']), { words: ['.', 'a', 'b'], dropped: undefined });
  t.same(forgiveFederation([]), { words: [], dropped: undefined });
  t.end();
});

void t.test('labels, statuses and limits are parsed, or refused as usage errors', t => {
  t.same(parseLabels(['a=1', 'b=x=y', 'c=']), { a: '1', b: 'x=y', c: '' });
  t.same(Object.keys(parseLabels(['__proto__=1'])), ['__proto__']);
  t.same(parseStatuses(['online,offline', 'Online']), [
    NodeStatus.NODE_STATUS_ONLINE,
    NodeStatus.NODE_STATUS_OFFLINE,
  ]);
  t.same(parseStatuses(), []);
  t.equal(parseLimit('10'), 10);
  t.equal(parseLimit(undefined), undefined);
  for (const wrong of [
    () => parseLabels(['a']),
    () => parseLabels(['=1']),
    () => parseLabels(['a=1', 'a=2']),
    () => parseStatuses(['unspecified']),
    () => parseStatuses(['']),
    () => parseLimit('0'),
    () => parseLimit('-1'),
    () => parseLimit('1e3'),
  ]) {
    t.throws(wrong, { code: 'REQUEST_INVALID' });
  }
  t.end();
});

void t.test('paging requests no more than the limit and stops at the end', async t => {
  const asked: number[] = [];
  const source = (pageToken: string, max: number) => {
    asked.push(max);
    const at = Number(pageToken || '0');
    const items = Array.from({ length: Math.min(max, 25 - at) }, (_, index) => at + index);
    const end = at + items.length;
    return Promise.resolve({ items, nextPageToken: end < 25 ? String(end) : '' });
  };
  const collect = async (limit: number | undefined) => {
    asked.length = 0;
    const parts: [number, boolean][] = [];
    for await (const { items, isLast } of pages(limit, source, 10)) parts.push([items.length, isLast]);
    return { parts, asked: [...asked] };
  };
  t.same(await collect(undefined), {
    parts: [
      [10, false],
      [10, false],
      [5, true],
    ],
    asked: [10, 10, 10],
  });
  t.same(await collect(12), {
    parts: [
      [10, false],
      [2, true],
    ],
    asked: [10, 2],
  });
  t.same(await collect(10), { parts: [[10, true]], asked: [10] });
});

void t.test('every error code has an exit code, and an error of the link is never a usage error', t => {
  const codes = new Map(errorCodes.map(code => [code, exitCodeOf(new RollcallError(code, 'x'))]));
  const having = (exit: number) => errorCodes.filter(code => codes.get(code) === exit);
  t.same(having(2), [
    'CONFIG_INVALID',
    'FILE_UNREADABLE',
    'FILE_UNWRITABLE',
    'FILE_PERMISSIONS',
    'FILE_EXISTS',
    'KEY_UNSUPPORTED',
    'KEY_PASSPHRASE',
    'REQUEST_INVALID',
  ]);
  t.same(having(3), ['LINK_UNREACHABLE', 'LINK_UNVERIFIED']);
  const stated = new StatedByLink(new RollcallError('REQUEST_INVALID', 'x', { hint: 'y' }));
  t.equal(exitCodeOf(stated), 1);
  t.ok(isRollcallError(stated, 'REQUEST_INVALID'));
  t.equal(stated.hint, 'y');
  t.end();
});
