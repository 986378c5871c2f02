/**
 * Loaded before a rollcall process by `--import`, to give it a fault that no argument of the product could:
 *
 *   TEST_CLOCK_SHIFT_MS   its wall clock is off by this much (TLS itself still goes by the machine's)
 *   TEST_TIMERS_DUE_MS    `FROM-TO`: timers of such a length are due at once, so that what comes in minutes comes now
 *   TEST_CRASH_AT         SIGKILL just before its n-th step, counted from the first socket; a step is an event of a
 *                         TLS socket or an HTTP/2 stream, a write to one, or a change of a file
 *
 * Plain JavaScript: it is loaded by the built command, which knows no TypeScript.
 */
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { Writable } from 'node:stream';

const number = name => (process.env[name] === undefined ? undefined : Number(process.env[name]));

const shiftMs = number('TEST_CLOCK_SHIFT_MS');
if (shiftMs !== undefined) {
  const trueNow = Date.now;
  Date.now = () => trueNow() + shiftMs;
}

const due = process.env.TEST_TIMERS_DUE_MS?.split('-').map(Number);
if (due !== undefined) {
  const [from, to] = due;
  const trueTimeout = globalThis.setTimeout;
  globalThis.setTimeout = (call, delay, ...rest) =>
    trueTimeout(call, delay >= from && delay <= to ? 50 : delay, ...rest);
}

const crashAt = number('TEST_CRASH_AT');
if (crashAt !== undefined) countSteps(crashAt);

function countSteps(last) {
  let steps = 0;
  const watched = new Set(['TLSSocket', 'ClientHttp2Stream', 'ServerHttp2Stream']);
  const step = () => {
    steps += 1;
    if (steps === last) process.kill(process.pid, 'SIGKILL');
  };
  const wrap = (owner, name, concerns) => {
    const original = owner[name];
    owner[name] = function (...parts) {
      if (concerns(this)) step();
      return original.apply(this, parts);
    };
  };
  const isWatched = self => watched.has(self?.constructor?.name);
  wrap(EventEmitter.prototype, 'emit', isWatched);
  wrap(Writable.prototype, 'write', isWatched);
  // Before the first socket nothing is at stake yet.
  for (const name of ['open', 'rename', 'link', 'rm']) wrap(fs.promises, name, () => steps > 0);
  syncBuiltinESMExports();
}
