/** The time an operator waits for `rollcall nodes list`, beside the minimal command and an empty program. */
import { join } from 'node:path';
import { command } from '../../scripts/running.js';
import { operatorTokenFile } from '../../test/harness/operator.js';
import type { Bare } from '../bare/bare.js';
import type { Measured } from '../figures.js';
import type { BenchLink } from '../link.js';
import { startProgram } from '../programs.js';
import type { Stage } from '../stage.js';
import { endedChildrenCpuMs, now } from '../usage.js';

/** From the start of a process to its end. */
export interface CommandTimes {
  readonly list: Measured;
  readonly bareList: Measured;
  readonly nothing: Measured;
}

/** In turn, so that all three meet the same machine. */
export async function measureCommand(
  { place }: Stage,
  link: BenchLink,
  bare: Bare,
  runs: number,
): Promise<CommandTimes> {
  place.progress(`list: the command, ${runs} times`);
  const asking = [
    ...['--control', `127.0.0.1:${link.controlPort}`, '--root-certificates', place.caFile],
    ...['--token-file', operatorTokenFile(link.dataDir)],
  ];
  const bareList = join(import.meta.dirname, '../bare/list.js');
  const commands = {
    list: [command, 'nodes', 'list', '--limit', '100', ...asking],
    bareList: [bareList, `${bare.openPort}`, place.caFile],
    nothing: ['--eval', '0'],
  };
  const logFile = join(place.folder, 'list.log');
  const found = {
    list: { samples: [] as number[], cpuMs: [] as number[] },
    bareList: { samples: [] as number[], cpuMs: [] as number[] },
    nothing: { samples: [] as number[], cpuMs: [] as number[] },
  };
  for (let run = 0; run < runs; run += 1) {
    for (const which of ['list', 'bareList', 'nothing'] as const) {
      const cpuBefore = endedChildrenCpuMs();
      const startedAt = now();
      const { exited, process: child } = startProgram(process.execPath, commands[which], { logFile });
      await exited;
      if (child.exitCode !== 0) throw new Error(`the command of ${which} failed; see ${logFile}`);
      found[which].samples.push(now() - startedAt);
      found[which].cpuMs.push(endedChildrenCpuMs() - cpuBefore);
    }
  }
  return found;
}
