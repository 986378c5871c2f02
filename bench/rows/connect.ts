/** The cost of a mutual-TLS connection with a session to the server: CPU to make it, memory to hold it. */
import type { Beside, Figure, Measured } from '../figures.js';
import { settledKib } from '../programs.js';
import type { RunningSubject, Stage } from '../stage.js';
import { crewOf, startSubject, subjectNames, type SubjectName } from '../subjects.js';
import { cpuMs, residentKib } from '../usage.js';
import type { Row } from './row.js';

export const connectRow: Row = {
  name: 'connect',
  about: 'server CPU for each mutual-TLS connect, memory for each online node: 1,000, 5,000, 10,000',
  run: measureConnecting,
};

interface Reached {
  /** For each connect since the size before, ms. */
  readonly cpuMs: number;
  /** Resident, for each session, above what the server had before the first, garbage collected, KiB. */
  readonly kib: number;
  /** Resident, all of it, before garbage is collected, MiB. */
  readonly residentMib: number;
}

type Round = ReadonlyMap<number, Reached>;

async function measureConnecting(stage: Stage): Promise<Figure[]> {
  const { isQuick } = stage.place;
  const sizes = isQuick ? [30, 60] : [1_000, 5_000, 10_000];
  const rounds = new Map<SubjectName, Round[]>();
  for (const name of subjectNames) {
    const wanted = isQuick
      ? [sizes]
      : [sizes, ...Array.from({ length: 4 }, () => sizes.slice(0, again[name]))];
    const done: Round[] = [];
    for (const [index, some] of wanted.entries()) {
      const round = await grow(stage, name, some, `round ${index + 1} of ${wanted.length}`);
      if (!round) break;
      done.push(round);
    }
    if (done.length > 0) rounds.set(name, done);
  }
  return sizes.flatMap(size => figuresAt(size, rounds));
}

function hasProbe(name: SubjectName): boolean {
  return name === 'rollcall' || name === 'bare grpc-js';
}

/** How many of the sizes the rounds after the first have: each full one of a grpc-js server takes most of a minute. */
const again: Readonly<Record<SubjectName, number>> = {
  rollcall: 3,
  'bare grpc-js': 1,
  nats: 1,
  mosquitto: 1,
};

async function grow(
  stage: Stage,
  name: SubjectName,
  sizes: readonly number[],
  which: string,
): Promise<Round | undefined> {
  const { fleet, place } = stage;
  const max = sizes.at(-1) ?? 0;
  const crew = crewOf(name, true);
  place.progress(`connect: ${name}, ${which}, up to ${max}`);
  const server = await startSubject(stage, name, crew, max);
  if (!server) return undefined;
  const round = new Map<number, Reached>();
  const emptyKib = await settledKib(server.program, hasProbe(name), place.isQuick);
  let from = 0;
  for (const size of sizes) {
    round.set(size, await reach(stage, name, server, { crew, from, to: size }, emptyKib));
    from = size;
  }
  await fleet.leave({ crew, from: 0, to: max });
  await server.stop();
  return round;
}

async function reach(
  { fleet, place }: Stage,
  name: SubjectName,
  { program }: RunningSubject,
  part: { crew: string; from: number; to: number },
  emptyKib: number,
): Promise<Reached> {
  const cpuBefore = cpuMs(program.pid);
  await fleet.connect(part);
  const used = cpuMs(program.pid) - cpuBefore;
  const residentMib = residentKib(program.pid) / 1024;
  const kib = ((await settledKib(program, hasProbe(name), place.isQuick)) - emptyKib) / part.to;
  return { cpuMs: used / (part.to - part.from), kib, residentMib };
}

function figuresAt(size: number, rounds: ReadonlyMap<SubjectName, Round[]>): Figure[] {
  const of = (name: SubjectName, what: keyof Reached): Measured | undefined => {
    const samples = (rounds.get(name) ?? []).flatMap(round => round.get(size)?.[what] ?? []);
    return samples.length > 0 ? { samples } : undefined;
  };
  const beside = (what: keyof Reached): Partial<Record<Beside, Measured>> =>
    Object.fromEntries(
      subjectNames.flatMap(name => {
        const measured = name === 'rollcall' ? undefined : of(name, what);
        return measured ? [[name, measured]] : [];
      }),
    );
  const samples = (what: keyof Reached): readonly number[] => of('rollcall', what)?.samples ?? [];
  const isLargest = size >= 10_000;
  return [
    {
      id: `connect.cpu.${size}`,
      title: `server CPU for each mutual-TLS connect, up to ${size} nodes`,
      unit: 'ms',
      samples: samples('cpuMs'),
      beside: beside('cpuMs'),
      budget: { timesBare: 1.1 },
      note: 'the link finds the certificate in its registry by its hash, and commits the node as online',
    },
    {
      id: `connect.memory.${size}`,
      title: `server memory for each online node, ${size} nodes`,
      unit: 'KiB',
      samples: samples('kib'),
      beside: beside('kib'),
      ...(isLargest && { budget: { max: 95 } }),
    },
    {
      id: `connect.resident.${size}`,
      title: `all memory of the server as it stands, ${size} nodes`,
      unit: 'MiB',
      samples: samples('residentMib'),
      beside: beside('residentMib'),
      ...(isLargest && { budget: { max: 1024 } }),
    },
  ];
}
