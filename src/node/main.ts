/** The agent as a process: reads settings and keys, runs, and obeys signals. */
import { RollcallError, toRollcallError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { printProblems } from '../base/problem-lines.js';
import type { Agent } from './agent.js';
import { prepareAgent, readNodeSettings } from './prepare.js';

export interface NodeRun {
  /** By setting name. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stderr: { write(text: string): unknown };
}

/** `revoked` is its own, so that anyone who supervises the process knows that starting it again is of no use. */
export const nodeExitCodes = { toldTo: 0, local: 2, revoked: 4 } as const;

/** Runs until a signal says stop, something on this machine is wrong, or the node is revoked; gives the exit code. */
export async function runNode({ flags, environment, stderr }: NodeRun): Promise<number> {
  try {
    const settings = await readNodeSettings(flags, environment);
    const { agent, log } = await prepareAgent(settings, {
      environment,
      terminal: process.stdin.isTTY ? { input: process.stdin, output: process.stderr } : undefined,
    });
    const stopListening = obeySignals(agent, log);
    try {
      const outcome = await agent.start();
      if (outcome.reason === 'closed') return nodeExitCodes.toldTo;
      log.error({ code: outcome.error.code }, 'revoked');
      printProblems(stderr, revoked());
      return nodeExitCodes.revoked;
    } finally {
      stopListening();
    }
  } catch (error) {
    printProblems(stderr, toRollcallError(error));
    return nodeExitCodes.local;
  }
}

/** The first SIGTERM or SIGINT says good-bye to the link, a second one quits at once. */
function obeySignals(agent: Agent, log: Log): () => void {
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) process.exit(1);
    stopping = true;
    log.info({ signal }, 'node agent stops');
    void agent.close();
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  return () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, stop);
  };
}

function revoked(): RollcallError {
  return new RollcallError(
    'NODE_REVOKED',
    "this node was revoked by the link's operator and will not come back",
    {
      hint: 'register it again deliberately ("rollcall nodes register --again") or take it out of service',
    },
  );
}
