/** The bench's side of a sender: starts one for a job and gives what it returned. */
import type { JobConfig } from '../runs.js';
import { startModule } from '../programs.js';
import type { Bare } from './bare.js';
import type { SenderAnswer, SenderPlan } from './push.js';

/** `nodes`: names of those that are connected; the first of them are asked. */
export async function runBareJob<Result>(
  bare: Bare,
  nodes: readonly string[],
  config: JobConfig,
): Promise<Result> {
  const plan: SenderPlan = {
    socket: bare.pushSocket,
    nodes,
    config: { ...config, 'link-pid': bare.program.pid },
  };
  const sender = startModule('bare/sender.ts', [], { BENCH_SENDER: JSON.stringify(plan) });
  const answer = await new Promise<SenderAnswer>((resolve, reject) => {
    sender.process.on('message', (told: SenderAnswer) => resolve(told));
    void sender.exited.then(() => reject(new Error('a sender has ended without a word')));
  });
  await sender.exited;
  if ('error' in answer) throw new Error(`the sender: ${answer.error}`);
  return answer.result as Result;
}
