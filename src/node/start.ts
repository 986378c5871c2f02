/**
 * Starts a node in this process. `rollcall node` does it for a process of its own; programs and tests of others import it as
 * `rollcall/node`.
 *
 *     const node = await startNode({ link: 'localhost:9092', 'root-certificates': 'ca.crt', 'auth-private-key': 'key' });
 *     await node.online();
 *     await node.stop();
 */
import { RollcallError } from '../base/errors.js';
import type { AgentOutcome, AgentStatus } from './agent.js';
import { prepareAgent, readNodeSettings } from './prepare.js';

export type { AgentOutcome, AgentStatus } from './agent.js';

export interface RunningNode {
  readonly status: AgentStatus;
  /** Resolves when the node is online, at once if it is. Rejects with NODE_REVOKED, or when it was stopped. */
  online(): Promise<void>;
  /** How it ended: it was stopped, or it is revoked. Rejects for what is wrong on this machine, such as its state folder. */
  readonly ended: Promise<AgentOutcome>;
  /** Says good-bye to the link; resolves when nothing runs any more. */
  stop(): Promise<void>;
}

/**
 * Starts the agent, which from then on connects by itself whenever it can. The settings have the names of the flags
 * (docs/reference/settings.md); the log goes to standard error as JSON unless `log-format` says otherwise. Rejects with
 * CONFIG_INVALID, which lists every problem of the settings, or an error of a file.
 */
export async function startNode(settings: Readonly<Record<string, unknown>>): Promise<RunningNode> {
  const usable = await readNodeSettings({ 'log-format': 'json', ...settings }, {});
  const waiting = new Set<() => void>();
  const onStatus = ({ phase }: AgentStatus): void => {
    if (phase !== 'online') return;
    for (const resolve of waiting) resolve();
    waiting.clear();
  };
  const { agent } = await prepareAgent(usable, { environment: {}, onStatus });
  const ended = agent.start();
  ended.catch(() => undefined);
  return {
    ended,
    get status() {
      return agent.status;
    },
    async online() {
      if (agent.status.phase === 'online') return;
      await Promise.race([new Promise<void>(resolve => waiting.add(resolve)), ended.then(refuse)]);
    },
    stop: () => agent.close(),
  };
}

function refuse(outcome: AgentOutcome): never {
  throw outcome.reason === 'revoked'
    ? outcome.error
    : new RollcallError('LINK_UNREACHABLE', 'the node was stopped before it came online');
}
