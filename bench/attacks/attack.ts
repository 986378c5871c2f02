/**
 * An attack on a link of its own, and its effect on honest callers: an operator on an open connection, an operator
 * with a new connection, and a node that enrolls. All of it is well-formed traffic on loopback.
 */
import { readFile } from 'node:fs/promises';
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import { generatePrivateKey } from '../../src/identity/private-key.js';
import { openConnection } from '../../src/node/connection.js';
import { enroll } from '../../src/node/enroll.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import { operatorTokenFile } from '../../test/harness/operator.js';
import { restCalls } from '../../test/harness/rest-calls.js';
import type { Figure } from '../figures.js';
import { startLink, type BenchLink } from '../link.js';
import { cpuMs, now, peakKib, residentKib, sleep } from '../usage.js';
import type { Workplace } from '../workplace.js';

export interface Target {
  readonly place: Workplace;
  readonly link: BenchLink;
  /** Of a service with these roles, apart from the honest operator. */
  token(name: string, roles: readonly string[]): Promise<string>;
}

export interface UnderWay {
  /** The outcome of the attack, read while it is on. */
  note(): string;
  end(): Promise<void> | void;
}

export interface Attack {
  readonly name: string;
  readonly title: string;
  readonly hostsApps?: boolean;
  begin(target: Target): Promise<UnderWay>;
  /** Another honest caller that the attack concerns. */
  readonly also?: { readonly title: string; ask(target: Target): Promise<unknown> };
}

const giveUpMs = 20_000;
const askEveryMs = 100;

type Felt = Record<string, number[]>;

export async function measureAttack(place: Workplace, attack: Attack): Promise<Figure[]> {
  const plan = { name: `attacked-${attack.name}`, more: [], hostsApps: attack.hostsApps ?? false };
  const link = await startLink(place, plan);
  const target: Target = { place, link, token: (name, roles) => serviceToken(place, link, name, roles) };
  try {
    const seconds = place.isQuick ? 2 : 10;
    place.progress(`${attack.name}: without the attack`);
    const quiet = await feel(target, attack, seconds * 500);
    const memoryBefore = residentKib(link.program.pid);
    const cpuBefore = cpuMs(link.program.pid);
    const startedAt = now();
    place.progress(`${attack.name}: ${attack.title}`);
    const underWay = await attack.begin(target);
    const felt = await feel(target, attack, seconds * 1000);
    const note = underWay.note();
    const share = (cpuMs(link.program.pid) - cpuBefore) / (now() - startedAt);
    const memoryMib = (peakKib(link.program.pid) - memoryBefore) / 1024;
    await underWay.end();
    return [
      ...Object.entries(felt).map(([who, samples]) => figureOf(attack, who, samples, quiet[who] ?? [])),
      {
        ...{ id: `attack.${attack.name}.memory`, title: `memory of the link, ${attack.title}` },
        ...{ unit: 'MiB', samples: [memoryMib], note: `${note}; ${(share * 100).toFixed(0)} % of a core` },
      },
    ];
  } finally {
    await link.stop('SIGKILL');
  }
}

function figureOf(
  { name, title }: Attack,
  who: string,
  samples: readonly number[],
  quiet: readonly number[],
): Figure {
  const failed = samples.filter(each => !Number.isFinite(each)).length;
  const quietMedian = [...quiet].sort((one, other) => one - other)[quiet.length >> 1] ?? Number.NaN;
  const note = `${failed} of ${samples.length} failed; ${quietMedian.toFixed(1)} ms without the attack`;
  return {
    id: `attack.${name}.${who.replaceAll(' ', '-')}`,
    title: `${who}, ${title}`,
    unit: 'ms',
    samples,
    note,
  };
}

/** All honest callers repeat their requests; a slow or failed one counts as never. */
async function feel(target: Target, { also }: Attack, forMs: number): Promise<Felt> {
  const { link } = target;
  const ask = restCalls({ teardown: () => undefined }, link.controlPort, target.place.ca);
  const callers: Record<string, () => Promise<unknown>> = {
    'operator’s call': () => link.control.listNodes({ ...allNodes, pageSize: 1 }),
    'operator who comes anew': async () => {
      const { status } = await ask('GET /readyz', { headers: { connection: 'close' } });
      if (status !== 200) throw new Error(`${status}`);
    },
    'node that enrolls': () => enrollNew(target),
    ...(also && { [also.title]: () => also.ask(target) }),
  };
  const felt: Felt = {};
  const until = now() + forMs;
  await Promise.all(
    Object.entries(callers).map(async ([who, call]) => {
      const taken: number[] = (felt[who] = []);
      while (now() < until) {
        taken.push(await timed(call));
        await sleep(askEveryMs);
      }
    }),
  );
  return felt;
}

const allNodes = { statuses: [], labels: {}, text: '', pageToken: '' };

async function timed(call: () => Promise<unknown>): Promise<number> {
  const startedAt = now();
  const late = sleep(giveUpMs).then(() => Infinity);
  const done = call().then(
    () => now() - startedAt,
    () => Infinity,
  );
  return Promise.race([done, late]);
}

async function enrollNew({ place, link }: Target): Promise<void> {
  const privateKey = generatePrivateKey('P-256');
  const publicKey = privateKey.publicKey.spki;
  await link.control.registerNode({ publicKey, name: '', labels: {}, again: false });
  const connection = await openConnection({
    address: { host: 'localhost', port: link.nodePort },
    serverRoots: [place.ca],
    timeoutMs: giveUpMs,
    clock: systemClock,
  });
  try {
    await enroll({
      ...{ connection, privateKey, tenant: defaultTenant, generation: 0n },
      ...{ clock: systemClock, random: systemRandom },
    });
  } finally {
    await connection.close();
  }
}

async function serviceToken(
  { ca }: Workplace,
  { controlPort, dataDir }: BenchLink,
  name: string,
  roles: readonly string[],
): Promise<string> {
  const ask = restCalls({ teardown: () => undefined }, controlPort, ca);
  const token = await readFile(operatorTokenFile(dataDir), 'utf8');
  const { id } = (await ask('POST /v1/services', { token, json: { name, roles } })).fields;
  const made = await ask(`POST /v1/services/${id ?? ''}/secret`, { token });
  const form = {
    ...{ grant_type: 'client_credentials', client_id: id ?? '' },
    client_secret: made.fields['secret'] ?? '',
  };
  const granted = await ask('POST /auth/token', { form });
  const accessToken = granted.fields['access_token'];
  if (accessToken === undefined) throw new Error(`no token for ${name}: ${granted.text}`);
  return accessToken;
}
