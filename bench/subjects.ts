/** The servers that hold sessions in the rows of connecting and idling: ours and those beside, all started alike. */
import { startBare } from './bare/bare.js';
import type { Beside } from './figures.js';
import { mosquittoSubject } from './peers/mosquitto.js';
import { natsSubject } from './peers/nats.js';
import type { RunningSubject, Stage, Subject } from './stage.js';

export type SubjectName = 'rollcall' | Exclude<Beside, 'node itself' | 'baseline'>;

const rollcallSubject: Subject = {
  dialect: 'rollcall',
  async start(stage) {
    await stage.stopLink();
    const link = await stage.link();
    // A link that counts its nodes does not show what sessions cost.
    await link.logged('link started');
    return { program: link.program, port: link.nodePort, stop: () => stage.stopLink() };
  },
};

const bareSubject: Subject = {
  dialect: 'bare',
  async start(stage) {
    const { program, nodePort } = await startBare(stage.place, stage.authorityFile);
    return { program, port: nodePort, stop: () => program.stop('SIGKILL') };
  },
};

export const subjects: Readonly<Record<SubjectName, Subject>> = {
  rollcall: rollcallSubject,
  'bare grpc-js': bareSubject,
  nats: natsSubject,
  mosquitto: mosquittoSubject,
};

export const subjectNames = Object.keys(subjects) as SubjectName[];

/** The crew that connects to a subject; the servers beside can share one that moves from each to the next. */
export function crewOf(name: SubjectName, isShared: boolean): string {
  if (name === 'rollcall') return 'link';
  return isShared ? 'beside' : `beside-${name}`;
}

/** Starts a server and makes sure that so many agents have what they need for it; undefined when it is missing. */
export async function startSubject(
  stage: Stage,
  name: SubjectName,
  crew: string,
  count: number,
): Promise<RunningSubject | undefined> {
  if (name === 'rollcall') await stage.enrolled(count);
  const subject = subjects[name];
  const running = await subject.start(stage);
  if ('missing' in running) {
    stage.place.progress(`${running.missing}: skipped`);
    return undefined;
  }
  if (name !== 'rollcall') await stage.certified(crew, count, subject.dialect, running.port);
  return running;
}
