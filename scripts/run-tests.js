/**
 * Runs one ring of tests by tap and says how it went in a last line that people and machines can read:
 * `N passed, N failed`, with `, N skipped` after it when there are any. What is counted is assertions; a file or a
 * subtest that fails by itself (it crashed, timed out, or holds no test) counts as one.
 *
 *   node scripts/run-tests.js test [FILE...]         all of test/ that ends in .test.ts
 *   node scripts/run-tests.js test:long [FILE...]    all of test/ that ends in .long.ts
 *
 * Plain JavaScript, since it must run before anything is built. The exit code is tap's; 1 when no test ran.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const slowRooms = ['process', 'security', 'cli', 'fuzz'];
const root = fileURLToPath(new URL('..', import.meta.url));

const rings = {
  test: { suffix: '.test.ts', mayBeEmpty: false, options: [] },
  // The limit is for a whole file, in seconds.
  'test:long': { suffix: '.long.ts', mayBeEmpty: true, options: ['--timeout=1800'] },
};

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
  await run(files, ring.options);
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

async function run(files, options) {
  const { Parser } = await import(tapParserUrl());
  const tap = join(root, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs');
  const argv = [tap, 'run', '--reporter=tap', ...options, ...files];
  const child = spawn(process.execPath, argv, { cwd: root, stdio: ['inherit', 'pipe', 'inherit'] });
  const parser = new Parser();
  listen(parser, createTeller());
  parser.on('bailout', reason => fail(`bail out: ${reason}`));
  child.stdout.pipe(parser);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('close', (code, signal) => {
    // tap may also fail for what is no test: a bad option, a missing plugin, a signal.
    if (code !== 0 && counts.failed === 0) fail(`tap ended with ${signal ?? `exit code ${code}`}`);
    else if (counts.passed + counts.failed === 0) fail('no test ran');
    finish(code ?? 1);
  });
}

/** tap's own parser, found by way of the packages that bring it. */
function tapParserUrl() {
  const by = (from, name) => createRequire(from).resolve(name);
  const path = by(by(by(import.meta.url, 'tap'), '@tapjs/core'), 'tap-parser');
  return pathToFileURL(path).href;
}

/** Hears a parser and those of the files and subtests inside, in order. */
function listen(parser, tell) {
  parser.on('child', child => listen(child, tell));
  parser.on('assert', result => tell(result, parser.level === 0));
  parser.on('extra', text => process.stdout.write(text));
}

/** Counts and prints each event as it comes. */
function createTeller() {
  const failures = [];
  let passedBefore = 0;

  function addFailure(name, diagnostics, note) {
    failures.push(name);
    counts.failed += 1;
    console.log(`\nFAILED ${name}${note ? ` (${note})` : ''}`);
    console.log(indent(describe(diagnostics)));
  }

  /** The line that closes a file or a subtest; a failure inside was told already, one of its own is told here. */
  function endSuite({ fullname, ok, skip, diag, time }, isFile) {
    const isEmpty = isFile && skip === 'no tests found';
    const hasFailed = failures.some(name => name.startsWith(`${fullname} > `));
    if (isEmpty) addFailure(fullname, {}, 'it holds no test');
    else if (skip) addSkipped(fullname, skip);
    else if (!ok && !hasFailed) addFailure(fullname, diag, exitNote(diag));
    if (!isFile) return;
    const passed = counts.passed - passedBefore;
    passedBefore = counts.passed;
    console.log(
      `${ok && !isEmpty ? 'ok    ' : 'FAILED'} ${fullname}: ${passed} passed, ${((time ?? 0) / 1000).toFixed(1)} s`,
    );
  }

  function addSkipped(name, reason) {
    counts.skipped += 1;
    console.log(`skipped ${name}${typeof reason === 'string' ? ` (${reason})` : ''}`);
  }

  return (result, isFile) => {
    if (result.closingTestPoint) endSuite(result, isFile);
    else if (result.skip || result.todo) addSkipped(result.fullname, result.skip || result.todo);
    else if (result.ok) counts.passed += 1;
    else addFailure(result.fullname, result.diag);
  };
}

function exitNote(diag = {}) {
  if (diag.signal) return `ended by ${diag.signal}`;
  return diag.exitCode ? `exit code ${diag.exitCode}` : '';
}

/** Where, what was wanted and found, the line itself; what tap says besides is about tap. */
function describe({ at, diff, source, stack, found, wanted, ...rest } = {}) {
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

function asText(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
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
