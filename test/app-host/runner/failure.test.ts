/** Failures of an app, as its author reads them: at most 4,096 bytes, always with the place in the app. */
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { appLimits } from '../../../src/app/limits.js';
import { describeFailure } from '../../../src/app-host/runner/failure.js';
import { skipWithoutPython } from '../../harness/python-half.js';

const place = ' (lib/model.js:12:5)';

function failureOf(message: string): Error {
  const error = new Error(message);
  error.stack = `Error: ${message}\n    at train (/app/lib/model.js:12:5)`;
  return error;
}

void t.test('javascript: a failure of any length is clipped to the limit and keeps its place', test => {
  for (const message of ['short', 'x'.repeat(5_000), 'é'.repeat(5_000), `${'x'.repeat(4_080)}😀`]) {
    const text = describeFailure(failureOf(message), '/app');
    test.ok(text.endsWith(place), `${text.slice(0, 12)}… ends with ${text.slice(-30)}`);
    test.ok(Buffer.byteLength(text) <= appLimits.maxFailureBytes, `${Buffer.byteLength(text)} bytes`);
    test.notMatch(text, '\ufffd');
  }
  test.equal(describeFailure(failureOf('short'), '/app'), `Error: short${place}`);
  test.end();
});

void t.test(
  'python: a failure of any length is clipped to the limit and keeps its place',
  { skip: skipWithoutPython },
  test => {
    const folder = join(import.meta.dirname, '../../../python');
    const script = `
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, ${JSON.stringify(folder)})
import rollcall_app
code = compile("def train(text):\\n    raise ValueError(text)", "/app/model.py", "exec")
module = {}
exec(code, module)
for message in ["short", "x" * 5000, "\\u00e9" * 5000, "x" * 4070 + "\\U0001F600"]:
    try:
        module["train"](message)
    except ValueError as error:
        text = rollcall_app._describe(error, "/app")
        print(len(text.encode()), text.endswith(" (model.py:2)"), text.startswith("ValueError: " + message[:10]))
`;
    const { status, stdout, stderr } = spawnSync('python3', ['-c', script], { encoding: 'utf8' });
    test.equal(status, 0, stderr);
    const lines = stdout.trimEnd().split('\n');
    test.equal(lines.length, 4);
    for (const line of lines) {
      test.match(line, / True True$/);
      test.ok(Number.parseInt(line, 10) <= appLimits.maxFailureBytes, line);
    }
    test.end();
  },
);
