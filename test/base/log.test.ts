/** Lines of the log: JSON for machines, and the same as a person reads it. */
import t from 'tap';
import { createLog, type LogFormat } from '../../src/base/log.js';

function lineOf(format: LogFormat | undefined, fields: Record<string, unknown>, message: string): string {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  createLog({ level: 'info', name: 'rollcall-link', ...(format && { format }), destination }).info(
    fields,
    message,
  );
  return lines.join('');
}

void t.test('a text line has time, level, message and fields, with control characters escaped', t => {
  const line = lineOf(
    'text',
    { link: 'localhost:9092', reason: 'closed by node', count: 3 },
    'node agent starts',
  );
  t.match(
    line,
    /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ {2}info {3}node agent starts {2}link=localhost:9092 reason="closed by node" count=3\n$/,
  );
  t.match(lineOf('text', { at: { host: '::', port: 1 } }, 'ready'), / {2}at=\{"host":"::","port":1\}\n$/);
  t.match(lineOf('text', {}, 'ready'), /Z {2}info {3}ready\n$/);
  const evil = lineOf('text', { name2: '\x1b[2J\nx', err: new Error('it \x07 broke') }, 'a\x1b[31m\nb');
  t.equal(evil.split('\n').length, 2, 'one line');
  t.notMatch(evil, /[\x00-\x09\x0b-\x1f]/);
  t.match(evil, /err="it \? broke"/);
  t.match(lineOf('text', { long: 'x'.repeat(5_000) }, 'm'), /long=x{200}…\n$/);
  t.match(lineOf('text', { token: 'secret!' }, 'm'), /token=\[redacted\]\n$/);
  t.end();
});

void t.test('a field that the log would redact by its name does not compile', t => {
  const log = createLog({ level: 'silent', name: 'rollcall-app-host' });
  log.warn({ keyFile: 'app-host.key' }, 'm');
  // @ts-expect-error -- `key` is the name of a secret
  log.warn({ key: 'app-host.key' }, 'm');
  t.end();
});

void t.test('a JSON line is the default of the log', t => {
  for (const format of ['json', undefined] as const)
    t.match(JSON.parse(lineOf(format, { a: 1 }, 'm')), {
      level: 'info',
      msg: 'm',
      a: 1,
      name: 'rollcall-link',
    });
  t.end();
});
