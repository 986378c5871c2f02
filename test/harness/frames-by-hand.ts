/** Frames of a node that a test writes itself, on a connection of the agent's making. */
import type { LinkConnection, ReceivedFrame, SentFrame } from '../../src/node/connection.js';

export function readyFrame(more: Partial<Extract<SentFrame, { $case: 'ready' }>['value']> = {}): SentFrame {
  return {
    $case: 'ready',
    value: { protocolVersion: 1, agentVersion: 'hand', nodeClockMs: 0n, runs: [], ...more },
  };
}

/** The next frame of this kind; rejects with why the connection ended before it. */
export function nextFrame<Case extends ReceivedFrame['$case']>(
  connection: Pick<LinkConnection, 'listen' | 'over'>,
  due: Case,
): Promise<Extract<ReceivedFrame, { $case: Case }>> {
  return new Promise((resolve, reject) => {
    const forget = connection.listen(frame => {
      if (frame.$case !== due) return;
      forget();
      resolve(frame as Extract<ReceivedFrame, { $case: Case }>);
    });
    void connection.over.then(reject);
  });
}
