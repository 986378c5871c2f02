/** The output of runners as lines: any bytes, bounded, with control characters escaped. */
import t from 'tap';
import fc from 'fast-check';
import { PassThrough } from 'node:stream';
import {
  createLineLimit,
  createLineSplitter,
  makeHarmless,
  outputLimits,
  readOutput,
  showLine,
} from '../../../src/app-host/hosting/runner-output.js';
import { createManualClock } from '../../harness/manual-clock.js';

function linesOf(pieces: readonly Buffer[]): string[] {
  const lines: string[] = [];
  const splitter = createLineSplitter(line => lines.push(showLine(line)));
  for (const piece of pieces) splitter.take(piece);
  splitter.end();
  return lines;
}

void t.test('output is split into bounded lines, wherever the chunks are cut', t => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constant('\n'), fc.string(), fc.constant('y'.repeat(3_000)))),
      fc.array(fc.integer({ min: 1, max: 5_000 }), { maxLength: 20 }),
      (texts, cuts) => {
        const bytes = Buffer.from(texts.join(''));
        const pieces: Buffer[] = [];
        let at = 0;
        for (const cut of [...cuts, bytes.length]) pieces.push(bytes.subarray(at, (at += cut)));
        const lines = linesOf(pieces);
        t.strictSame(lines, linesOf([bytes]));
        const wanted = bytes.toString().split('\n');
        if (wanted.at(-1) === '') wanted.pop();
        t.equal(lines.length, wanted.length);
        t.ok(lines.every(line => line.length <= 2 * outputLimits.lineBytes + 1));
      },
    ),
  );
  t.end();
});

void t.test('control characters in output are escaped', t => {
  t.strictSame(linesOf([Buffer.from('plain\r\n\n\x1b[31mred\x1b[0m\ttab\n')]), ['plain', '', 'red  tab']);
  t.equal(makeHarmless('a\x1b]0;title\x07b\x00c\u202ed'), 'a?]0;title?b?c?d');
  t.equal(showLine(Buffer.from([0x66, 0xff, 0xfe, 0x67])), 'f\ufffd\ufffdg');
  const long = Buffer.concat([Buffer.alloc(outputLimits.lineBytes - 1, 0x61), Buffer.from('éé')]);
  t.equal(showLine(long), `${'a'.repeat(outputLimits.lineBytes - 1)}…`, 'no half of a character');
  t.end();
});

void t.test('output lines beyond the limit per second are counted, and the count is reported', t => {
  const clock = createManualClock();
  const lines: string[] = [];
  const limit = createLineLimit(clock, (stream, text) => lines.push(`${stream}: ${text}`), 2);
  for (const text of ['one', 'two', 'three', 'four']) limit.take('stdout', () => text);
  t.strictSame(lines, ['stdout: one', 'stdout: two']);
  clock.advance(1_000);
  t.strictSame(lines.splice(0), [
    'stdout: one',
    'stdout: two',
    'stderr: (2 more lines were left out: at most 2 a second)',
  ]);
  for (const text of ['five', 'six', 'seven']) limit.take('stdout', () => text);
  limit.end();
  t.match(lines, ['stdout: five', 'stdout: six', /\(1 more/]);
  t.end();
});

void t.test('a runner that exceeds the lines of a second is paused until the next', async t => {
  const clock = createManualClock();
  const streams = { stdout: new PassThrough(), stderr: new PassThrough() };
  const lines: string[] = [];
  const reader = readOutput(streams, clock, (stream, text) => lines.push(`${stream}: ${text}`));
  streams.stdout.write(Buffer.alloc(outputLimits.bytesPerSecond + 1, 0x61));
  streams.stdout.write('\n');
  await new Promise(resolve => setImmediate(resolve));
  t.ok(streams.stdout.isPaused() && streams.stderr.isPaused());
  clock.advance(1_000);
  t.notOk(streams.stdout.isPaused() || streams.stderr.isPaused());
  streams.stderr.end('the rest');
  streams.stdout.end('');
  await reader.ended;
  t.equal(lines.length, 2);
  t.match(lines[0], /^stdout: a+…$/);
  t.equal(lines[1], 'stderr: the rest');
});
