/**
 * The nearest equivalent of a revocation in the other servers: neither has a command that disconnects one client. The
 * operator removes its user from a file and sends SIGHUP; the server reads everything again and drops unknown
 * clients. Measured from the signal, so that writing the file does not count.
 */
import type { Measured } from '../figures.js';
import type { Dialect } from '../fleet/orders.js';
import type { RunningSubject, Stage } from '../stage.js';
import { cpuMs, now, sleep } from '../usage.js';
import { startMosquitto } from './mosquitto.js';
import { startNats } from './nats.js';

/** A client still connected after this time was not disconnected at all, ms. */
const patienceMs = 5_000;
/** From the end of one client to the next signal, ms. */
const restMs = 250;

export async function measurePeerRevocations(
  stage: Stage,
  count: number,
): Promise<Partial<Record<'nats' | 'mosquitto', Measured>>> {
  const nats = await measureNats(stage, count);
  const mosquitto = await measureMosquitto(stage, count);
  return { ...(nats && { nats }), ...(mosquitto && { mosquitto }) };
}

async function measureNats(stage: Stage, count: number): Promise<Measured | undefined> {
  const nodes = Array.from({ length: count }, (_, index) => index + 1);
  const server = await startNats(stage, nodes);
  if ('missing' in server) {
    skip(stage, server.missing);
    return undefined;
  }
  await stage.certified('revoke-nats', count, 'nats', server.port);
  return dropOneByOne(stage, 'revoke-nats', count, server, gone => server.allow(nodes.slice(gone)));
}

async function measureMosquitto(stage: Stage, count: number): Promise<Measured | undefined> {
  const { fleet } = stage;
  const crew = 'revoke-mosquitto';
  // The fleet names its MQTT clients by the end of their keys, so the keys come before the server.
  await fleet.aim({ crew, dialect: 'mqtt' satisfies Dialect, port: 0 });
  const keys = await fleet.grow({ crew, count, curve: 'P-256' });
  const users = keys.map(spki => Buffer.from(spki).subarray(-16).toString('hex'));
  const server = await startMosquitto(stage, users);
  if ('missing' in server) {
    skip(stage, server.missing);
    return undefined;
  }
  await fleet.aim({ crew, dialect: 'mqtt', port: server.port });
  await fleet.certify({ crew, from: 0, to: count, folder: stage.authorityFolder });
  return dropOneByOne(stage, crew, count, server, gone => server.allow(users.slice(gone)));
}

function skip({ place }: Stage, why: string): void {
  place.progress(`revoke: ${why}: skipped`);
}

/** `leaveOut` writes the file without the first so many. */
async function dropOneByOne(
  { fleet, place }: Stage,
  crew: string,
  count: number,
  server: RunningSubject,
  leaveOut: (gone: number) => Promise<void>,
): Promise<Measured> {
  place.progress(`revoke: ${crew}`);
  await fleet.connect({ crew, from: 0, to: count });
  const samples: number[] = [];
  const cpu: number[] = [];
  for (let index = 0; index < (place.isQuick ? 3 : 20); index += 1) {
    await leaveOut(index + 1);
    await sleep(25);
    const cpuBefore = cpuMs(server.program.pid);
    const startedAt = now();
    server.program.process.kill('SIGHUP');
    const gone = fleet.gone({ crew, from: index, to: index + 1 });
    const [at] = await Promise.race([gone, sleep(patienceMs).then(() => [])]);
    samples.push(at === undefined ? Number.POSITIVE_INFINITY : at - startedAt);
    // A signal that comes while mosquitto still reads its files is lost.
    await sleep(restMs);
    cpu.push(cpuMs(server.program.pid) - cpuBefore);
    if (at === undefined) break;
  }
  await server.stop();
  return { samples, cpuMs: cpu };
}
