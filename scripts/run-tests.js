/**
 * Runs one ring of tests and says how it went in a last line that people and machines can read:
 * `N passed, N failed`, with `, N skipped` after it when there are any. What is counted is assertions; a file or a
 * subtest that fails by itself (it crashed, timed out, or holds no test) counts as one.
 *
 *   node scripts/run-tests.js test [FILE...]         all of test/ that ends in .test.ts
 *   node scripts/run-tests.js test:long [FILE...]    all of test/ that ends in .long.ts
 *
 * Each file is a process of its own that uses tap as a library, a few at a time. `tap run` would do the same and load
 * its coverage, mocks and process information into every test and every program a test starts, which takes 1.7 times
 * as long (208 s against 125 s for `npm test`). A variable ROLLCALL_TEST_NODE names another Node.js binary.
 *
 * Plain JavaScript, since it must run before anything is built. The exit code is 1 when a test failed or none ran.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { inspect } from 'node:util';

const slowRooms = ['process', 'security', 'cli', 'fuzz'];
const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * `fileSeconds` is the limit for a whole file. Files of the fast ring wait for processes a fifth of their time: three at once
 * fill two cores. Those of the long ring fill them by two.
 */
const rings = {
  test: { suffix: '.test.ts', mayBeEmpty: false, fileSeconds: 170, filesAtOnce: 3 },
  'test:long': { suffix: '.long.ts', mayBeEmpty: true, fileSeconds: 1800, filesAtOnce: 2 },
};
/** A file whose own time limit did not end it is killed so much later. */
const graceSeconds = 30;
/** The message of tap for a file without tests; every other reason was given on purpose. */
const noTests = 'no tests found';

const [ringName = '', ...chosen] = process.argv.slice(2);
const ring = Object.hasOwn(rings, ringName) ? rings[ringName] : undefined;
if (!ring) {
  console.error(
    `error: no ring of tests "${ringName}"\nhint: node scripts/run-tests.js ${Object.keys(rings).join('|')} [FILE...]`,
  );
  process.exit(2);
}

const files = chosen.length > 0 ? chosen : findTests(ring.suffix);
const counts = { passed: 0, failed: 0, skipped: 0 };
if (files.length > 0) {
  await run(files, ring);
} else {
  if (!ring.mayBeEmpty) fail(`no file in test/ ends in ${ring.suffix}`);
  finish(0);
}

function findTests(suffix) {
  return readdirSync(join(root, 'test'), { recursive: true })
    .filter(path => path.endsWith(suffix))
    .map(path => join('test', path))
    .sort((one, other) => rankOf(one) - rankOf(other) || (one < other ? -1 : 1));
}

/** Files that start processes take longest: begun first, none of them is left to run alone at the end. */
function rankOf(path) {
  const rank = slowRooms.findIndex(room => path.startsWith(join('test', room)));
  return rank === -1 ? slowRooms.length : rank;
}

async function run(files, { fileSeconds, filesAtOnce }) {
  const { Parser } = await import(tapParserUrl());
  const waiting = [...files];
  const running = new Set();
  let stopping = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      stopping = true;
      for (const child of running) child.kill(signal);
    });
  }
  async function runInTurn() {
    for (let file = waiting.shift(); file !== undefined && !stopping; file = waiting.shift())
      await runFile(Parser, file, fileSeconds, running);
  }
  await Promise.all(Array.from({ length: filesAtOnce }, runInTurn));
  if (stopping) fail('the tests were stopped');
  else if (counts.passed + counts.failed === 0) fail('no test ran');
  finish(0);
}

/** Runs one file to its end and prints what came of it. */
function runFile(Parser, file, fileSeconds, running) {
  const startedAt = performance.now();
  const parser = new Parser();
  const report = createReport(file);
  listen(parser, report);
  parser.on('bailout', reason => report.addFailure(file, {}, `bail out: ${reason}`));
  const child = spawn(process.env.ROLLCALL_TEST_NODE ?? process.execPath, ['--import=tsx', file], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TAP_TIMEOUT: String(fileSeconds), TAP_JOBS: '1' },
  });
  running.add(child);
  const deadline = setTimeout(() => child.kill('SIGKILL'), (fileSeconds + graceSeconds) * 1000);
  child.stdout.pipe(parser);
  child.stderr.on('data', chunk => report.addText(chunk.toString()));
  const closed = new Promise(resolve => child.on('close', (code, signal) => resolve({ code, signal })));
  const parsed = new Promise(resolve => parser.on('complete', resolve));
  return Promise.all([closed, parsed]).then(([{ code, signal }, results]) => {
    clearTimeout(deadline);
    running.delete(child);
    report.end({ code, signal, results, seconds: (performance.now() - startedAt) / 1000 });
  });
}

/** tap's own parser, found by way of the packages that bring it. */
function tapParserUrl() {
  const by = (from, name) => createRequire(from).resolve(name);
  const path = by(by(by(import.meta.url, 'tap'), '@tapjs/core'), 'tap-parser');
  return pathToFileURL(path).href;
}

/** Hears a parser and those of the subtests inside, in order. */
function listen(parser, report) {
  parser.on('child', child => listen(child, report));
  parser.on('assert', result => report.tell(result));
  parser.on('extra', text => report.addText(text));
}

/** Counts each event of one file as it comes; prints them together at its end, so that two files do not mix. */
function createReport(file) {
  const lines = [];
  const failures = [];
  let passed = 0;

  function addFailure(name, diagnostics, note) {
    failures.push(name);
    counts.failed += 1;
    lines.push(`\nFAILED ${titled(name)}${note ? ` (${note})` : ''}`, indent(describe(diagnostics)));
  }

  function addSkipped(name, reason) {
    counts.skipped += 1;
    lines.push(`skipped ${titled(name)}${typeof reason === 'string' ? ` (${reason})` : ''}`);
  }

  const titled = name => (name === file ? file : `${file} > ${name}`);

  /** The line that closes a subtest; a failure inside was told already, one of its own is told here. */
  function endSuite({ fullname, ok, skip, diag }) {
    const hasFailed = failures.some(name => name.startsWith(`${fullname} > `));
    if (skip) addSkipped(fullname, skip);
    else if (!ok && !hasFailed) addFailure(fullname, diag);
  }

  return {
    addFailure,
    addText: text => lines.push(text.trimEnd()),
    tell(result) {
      if (result.closingTestPoint) endSuite(result);
      else if (result.skip || result.todo) addSkipped(result.fullname, result.skip || result.todo);
      else if (result.ok) {
        passed += 1;
        counts.passed += 1;
      } else addFailure(result.fullname, result.diag);
    },
    end({ code, signal, results, seconds }) {
      const { skipAll, skipReason } = results.plan ?? {};
      if (skipAll && skipReason !== noTests) addSkipped(file, skipReason);
      else if (passed === 0 && failures.length === 0) addFailure(file, {}, 'it holds no test');
      if (failures.length === 0 && (code !== 0 || !results.ok))
        addFailure(file, {}, signal ? `ended by ${signal}` : `exit code ${code}`);
      if (lines.length > 0) console.log(lines.join('\n'));
      const word = failures.length === 0 ? 'ok    ' : 'FAILED';
      console.log(`${word} ${file}: ${passed} passed, ${seconds.toFixed(1)} s`);
    },
  };
}

/** Where, what was wanted and found, the line itself; what tap says besides is about tap. */
function describe(diagnostics) {
  // tap gives null where it has nothing to say.
  const { at, diff, source, stack, found, wanted, ...rest } = diagnostics ?? {};
  const about = ['code', 'type', 'message', 'expired', 'tapCaught', 'error', 'errorOrigin', 'comment'];
  const facts = about.filter(key => rest[key] !== undefined).map(key => `${key}: ${asText(rest[key])}`);
  const values = diff
    ? [diff]
    : Object.entries({ wanted, found })
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => `${key}: ${asText(value)}`);
  const place = at?.fileName ? [`at ${at.fileName}:${at.lineNumber}:${at.columnNumber}`] : [];
  return [...place, ...facts, ...values, ...(source ? [source] : []), ...(stack ? [stack] : [])]
    .map(part => part.trimEnd())
    .join('\n');
}

/** Values that tap read from its own YAML may refer to themselves. */
function asText(value) {
  return typeof value === 'string' ? value : inspect(value, { breakLength: Infinity });
}

function indent(text) {
  return text.replaceAll(/^(?=.)/gm, '  ');
}

/** A failure that is no test's. */
function fail(message) {
  console.log(`\nFAILED ${message}`);
  counts.failed += 1;
}

function finish(code) {
  const { passed, failed, skipped } = counts;
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  process.exitCode = code || (failed > 0 ? 1 : 0);
}
