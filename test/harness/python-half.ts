/** Halves in Python as tests write them: the body of a function, without the lines around it. */
import { spawnSync } from 'node:child_process';

export const hasPython = spawnSync('python3', ['--version']).status === 0;

/** For tests of Python, on machines without it. */
export const skipWithoutPython = !hasPython && 'there is no python3 here';

/** The source of `server.py`; the body, however far it is indented, begins in line 5. */
export function pythonServerHalf(body: string): string {
  const lines = body.replace(/^\n|\n *$/g, '').split('\n');
  const depths = lines.filter(line => line.trim() !== '').map(line => /^ */.exec(line)?.[0].length ?? 0);
  const depth = Math.min(...depths);
  return `import array, sys, threading, time, rollcall_app
from rollcall_app import GridError, NumberArray, OutgoingMessage
@rollcall_app.server
def main(grid, context):
${lines.map(line => `    ${line.slice(depth)}`).join('\n')}
`;
}
