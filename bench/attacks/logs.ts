/**
 * One node of a run that sends log lines as fast as its connection takes them, and the effect on others: an
 * operator's `/healthz`, each over a connection of its own, and another node's round trip on its session.
 */
import { readFileSync } from 'node:fs';
import { get } from 'node:https';
import { packArchive } from '../../src/app-package/app-archive.js';
import { signApp } from '../../src/app-package/app-signature.js';
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import { ControlClient } from '../../src/control-client/control-client.js';
import { generatePrivateKey } from '../../src/identity/private-key.js';
import { openConnection, type LinkConnection } from '../../src/node/connection.js';
import { enroll, type Enrollment } from '../../src/node/enroll.js';
import type { LinkFrame, NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import { operatorTokenFile } from '../../test/harness/operator.js';
import { startLink, type BenchLink } from '../link.js';
import { benchApp } from '../runs.js';
import { now, sleep } from '../usage.js';
import type { Workplace } from '../workplace.js';

export interface LogFlood {
  /** In each frame. */
  readonly lines: number;
  /** Characters of each line. */
  readonly textLength: number;
  readonly seconds: number;
}

/** Every time that was measured, ms. */
export interface Felt {
  readonly healthzMs: readonly number[];
  readonly roundTripMs: readonly number[];
}

export interface FloodOutcome {
  readonly quiet: Felt;
  readonly flooded: Felt;
  /** Frames that the attacker handed over, and sessions of it that the link ended. */
  readonly frames: number;
  readonly sessionsEnded: number;
}

type Said = NonNullable<LinkFrame['frame']>;

/** A node whose frames the bench writes itself. */
interface Peer {
  readonly id: bigint;
  /** The next frame that matches. */
  hear(wanted: (frame: Said) => boolean): Promise<Said>;
  say(frame: NonNullable<NodeFrame['frame']>): void;
  /** Resolves when more may come, or the session is over. */
  sayAll(frame: NonNullable<NodeFrame['frame']>): Promise<void>;
  readonly isOver: () => boolean;
  close(): Promise<void>;
}

const quietSeconds = 2;
/** Between two requests of honest callers, ms. */
const askEveryMs = 20;

/** On a link of its own. */
export async function measureLogFlood(place: Workplace, flood: LogFlood): Promise<FloodOutcome> {
  const link = await startLink(place, { name: `logs-${flood.lines}-${flood.textLength}`, hostsApps: true });
  place.onClose(() => link.stop());
  const attackerEnrollment = await enrollNew(place, link);
  const honest = await openPeer(place, link, await enrollNew(place, link));
  let attacker = await openPeer(place, link, attackerEnrollment);
  const run = await startRun(place, link);
  await Promise.all([honest, attacker].map(peer => peer.hear(({ $case }) => $case === 'deliver')));

  const quiet = await feel(place, link, honest, quietSeconds * 1000);
  const over = new AbortController();
  let frames = 0;
  let sessionsEnded = 0;
  const lines = Array.from({ length: flood.lines }, () => ({
    ...{ atMs: 0n, level: '', text: 'x'.repeat(flood.textLength) },
  }));
  const flooding = (async () => {
    for (let sequence = 1n; !over.signal.aborted; sequence += BigInt(flood.lines)) {
      const frame = { $case: 'log', value: { run, sequence, lines } } as const;
      if (attacker.isOver()) {
        sessionsEnded += 1;
        await attacker.close();
        await sleep(askEveryMs);
        attacker = await openPeer(place, link, attackerEnrollment);
      }
      frames += 1;
      await attacker.sayAll(frame);
    }
  })();
  const flooded = await feel(place, link, honest, flood.seconds * 1000);
  over.abort();
  await flooding;
  await Promise.all([attacker.close(), honest.close()]);
  await link.stop();
  return { quiet, flooded, frames, sessionsEnded };
}

async function feel(place: Workplace, link: BenchLink, honest: Peer, forMs: number): Promise<Felt> {
  const until = now() + forMs;
  const repeat = async (ask: () => Promise<unknown>): Promise<number[]> => {
    const taken: number[] = [];
    while (now() < until) {
      const startedAt = now();
      await ask();
      taken.push(now() - startedAt);
      await sleep(askEveryMs);
    }
    return taken;
  };
  let runs = 1n << 63n;
  const [healthzMs, roundTripMs] = await Promise.all([
    repeat(() => askHealth(place, link)),
    repeat(() => {
      // A frame about an unknown run is answered at once, by one frame only.
      const run = ++runs;
      honest.say({ $case: 'reply', value: { run, message: 1n, outcome: undefined } });
      return honest.hear(frame => frame.$case === 'cancel' && frame.value.run === run);
    }),
  ]);
  return { healthzMs, roundTripMs };
}

function askHealth({ ca }: Workplace, { controlPort: port }: BenchLink): Promise<void> {
  return new Promise((resolve, reject) => {
    const asking = get({ host: 'localhost', port, ca, path: '/healthz', agent: false }, response => {
      response.resume().once('end', resolve).once('error', reject);
    });
    asking.once('error', reject);
  });
}

function connect(
  { ca }: Workplace,
  { nodePort: port }: BenchLink,
  enrollment?: Enrollment,
): Promise<LinkConnection> {
  return openConnection({
    address: { host: 'localhost', port },
    serverRoots: [ca],
    ...(enrollment && {
      certificate: { leaf: enrollment.certificateChain[0] ?? '', key: enrollment.sessionKey },
    }),
    timeoutMs: 60_000,
    clock: systemClock,
  });
}

async function enrollNew(place: Workplace, link: BenchLink): Promise<Enrollment> {
  const privateKey = generatePrivateKey('P-256');
  const publicKey = privateKey.publicKey.spki;
  await link.control.registerNode({ publicKey, name: '', labels: {}, again: false });
  const connection = await connect(place, link);
  const enrollment = await enroll({
    ...{ connection, privateKey, tenant: defaultTenant, generation: 0n },
    ...{ clock: systemClock, random: systemRandom },
  });
  await connection.close();
  return enrollment;
}

async function openPeer(place: Workplace, link: BenchLink, enrollment: Enrollment): Promise<Peer> {
  const connection = await connect(place, link, enrollment);
  const heard: Said[] = [];
  const listeners = new Set<() => void>();
  let isOver = false;
  let tellEnd = (): void => undefined;
  const ended = new Promise<void>(resolve => (tellEnd = resolve));
  const say: Peer['say'] = frame => void connection.send(frame);
  void connection.over.then(() => {
    isOver = true;
    tellEnd();
  });
  connection.listen(frame => {
    if (frame.$case === 'ping') say({ $case: 'pong', value: { sequence: frame.value.sequence } });
    else if (frame.$case !== 'logTaken') heard.push(frame);
    for (const look of [...listeners]) look();
  });
  const hear: Peer['hear'] = wanted =>
    new Promise(resolve => {
      const look = (): void => {
        const at = heard.findIndex(wanted);
        if (at === -1) return;
        listeners.delete(look);
        resolve(heard.splice(at, 1)[0] as Said);
      };
      listeners.add(look);
      look();
    });
  say({ $case: 'ready', value: { protocolVersion: 1, agentVersion: 'bench', nodeClockMs: 0n, runs: [] } });
  // A node that has connected too often is refused, and over at once.
  await Promise.race([hear(({ $case }) => $case === 'welcome'), ended]);
  return {
    ...{ id: enrollment.nodeId, hear, say, isOver: () => isOver },
    async sayAll(frame) {
      if (!connection.send(frame)) await connection.drained();
    },
    close: () => connection.close(),
  };
}

/** Of the app of the bench, which asks both nodes and waits: neither answers. */
async function startRun({ ca }: Workplace, link: BenchLink): Promise<bigint> {
  const client = new ControlClient({
    address: `localhost:${link.controlPort}`,
    rootCertificates: ca,
    token: readFileSync(operatorTokenFile(link.dataDir), 'utf8'),
  });
  const { app, archive } = await packArchive(benchApp);
  const key = generatePrivateKey('P-256');
  const named = { name: app.manifest.name, version: app.manifest.version, digest: app.digest };
  const { id } = await client.runs.start({
    ...{ appName: named.name, appVersion: named.version, appDigest: named.digest },
    ...{ signer: key.publicKey.spki, signature: signApp(key, named), archive },
    config: { job: 'round', nodes: 2 },
  });
  client.close();
  return id;
}
