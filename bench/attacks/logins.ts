/**
 * The effect on an operator's login of strangers who guess passwords: 70 guesses from one address that hang up after
 * 1.5 s, and guesses from 250 addresses for half a minute. The operator comes from a known address, or from a new
 * one, and treats a 429 as a good client does: it waits as long as stated, then tries again.
 */
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { operatorTokenFile } from '../../test/harness/operator.js';
import { restCalls, type AskRest, type RestAnswer } from '../../test/harness/rest-calls.js';
import type { Figure } from '../figures.js';
import { startLink, type BenchLink } from '../link.js';
import type { Workplace } from '../workplace.js';
import { cpuMs, now, sleep } from '../usage.js';

const password = 'correct horse battery staple';
const hangUpMs = 1_500;
const maxTries = 20;
const enoughMs = 90_000;

export async function measureLogins(place: Workplace): Promise<Figure[]> {
  const undoing: (() => unknown)[] = [];
  const link = await startLink(place, { name: 'attacked-logins' });
  undoing.push(() => link.stop());
  try {
    const ask = restCalls(
      { teardown: undo => void undoing.push(undo as () => unknown) },
      link.controlPort,
      place.ca,
    );
    const token = await readFile(operatorTokenFile(link.dataDir), 'utf8');
    const user = { name: 'ada', roles: ['operator'], password };
    const made = await ask('POST /v1/users', { token, json: user });
    if (made.status !== 200) throw new Error(`no user: ${made.text}`);
    return await measureAttacks(place, link, ask);
  } finally {
    for (const undo of undoing.reverse()) await undo();
  }
}

async function measureAttacks(place: Workplace, link: BenchLink, ask: AskRest): Promise<Figure[]> {
  const times = place.isQuick ? 3 : 10;
  let newAddresses = 0;
  const knownLogin = (): Promise<Login> => login(ask, '127.0.0.1');
  const newLogin = (): Promise<Login> => login(ask, `127.9.0.${(newAddresses += 1)}`);
  const quiet = await repeat(times, knownLogin);

  place.progress('logins: 70 guesses from one address that hang up');
  const cpuBefore = cpuMs(link.program.pid);
  const hangingUp = Promise.all(
    Array.from({ length: 70 }, (_, n) => guess(link, place, '127.8.0.1', `name-${n}`)),
  );
  await sleep(500);
  const duringHangUps = await repeat(3, knownLogin);
  await hangingUp;
  const hangUpCpu = cpuMs(link.program.pid) - cpuBefore;

  place.progress('logins: guesses from 250 addresses');
  const stop = guessFrom(link, place, place.isQuick ? 20 : 250);
  await sleep(3_000);
  const known = await repeat(times, knownLogin);
  const fromNew = await repeat(place.isQuick ? 3 : 5, newLogin);
  await stop();
  return [
    figure('attack.logins.quiet', 'password login, without an attack', quiet),
    {
      ...figure(
        'attack.logins.hangUps',
        'password login while 70 guesses of one address hang up',
        duringHangUps,
      ),
      cpuMs: [hangUpCpu],
    },
    figure(
      'attack.logins.known',
      'password login while 250 addresses guess, from where one logged in before',
      known,
    ),
    figure('attack.logins.new', 'password login while 250 addresses guess, from a new address', fromNew),
  ];
}

interface Login {
  readonly ms: number;
  readonly tries: number;
  readonly isIn: boolean;
}

function figure(id: string, title: string, logins: readonly Login[]): Figure {
  const out = logins.filter(({ isIn }) => !isIn).length;
  const tries = logins.reduce((sum, each) => sum + each.tries, 0);
  const note = `${logins.length - out} of ${logins.length} went through, ${tries} requests`;
  return { id, title, unit: 'ms', samples: logins.map(({ ms }) => ms), note };
}

async function login(ask: AskRest, from: string): Promise<Login> {
  const form = { grant_type: 'password', client_id: 'rollcall-cli', username: 'ada', password };
  const startedAt = now();
  for (let tries = 1; ; tries += 1) {
    const answer = await ask('POST /auth/token', { form, from }).catch(() => undefined);
    const isIn = answer?.status === 200;
    if (isIn || tries === maxTries || now() - startedAt > 120_000)
      return { ms: now() - startedAt, tries, isIn };
    await sleep(1_000 * retryAfter(answer));
  }
}

function retryAfter(answer: RestAnswer | undefined): number {
  return Number(answer?.headers['retry-after'] ?? 1);
}

/** None is begun after `enoughMs`: one alone may take minutes where guesses lock others out. */
async function repeat(times: number, work: () => Promise<Login>): Promise<Login[]> {
  const logins: Login[] = [];
  const end = now() + enoughMs;
  while (logins.length < times && now() < end) logins.push(await work());
  return logins;
}

/** Goes on from so many addresses until it is stopped. */
function guessFrom(link: BenchLink, place: Workplace, addresses: number): () => Promise<unknown> {
  let isOver = false;
  const guessers = Array.from({ length: addresses }, async (_, index) => {
    const from = `127.7.${index >> 8}.${(index & 255) + 1}`;
    for (let round = 0; !isOver; round += 1) {
      await guess(link, place, from, `name-${index}-${round}`);
      await sleep(100);
    }
  });
  return () => {
    isOver = true;
    return Promise.all(guessers);
  };
}

/** Sends one guess and hangs up when it is answered, or not answered for a while. */
function guess(
  { controlPort: port }: BenchLink,
  { ca }: Workplace,
  from: string,
  name: string,
): Promise<void> {
  const body = new URLSearchParams({
    ...{ grant_type: 'password', client_id: 'rollcall-cli', username: name },
    password: 'incorrect horse battery',
  }).toString();
  return new Promise(resolve => {
    const agent = new Agent({ keepAlive: false });
    const outgoing = request({
      ...{ host: '127.0.0.1', port, ca, agent, localAddress: from, method: 'POST', path: '/auth/token' },
      headers: { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length },
    });
    const hangUp = setTimeout(() => outgoing.destroy(), hangUpMs);
    outgoing.on('response', response => response.resume());
    outgoing
      .on('error', () => undefined)
      .on('close', () => {
        clearTimeout(hangUp);
        resolve();
      });
    outgoing.end(body);
  });
}
