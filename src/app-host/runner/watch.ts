/**
 * A thread of the runner that reads its standard input: the token comes first, and its end means that the process that started the
 * runner is gone. An app that is busy for ever would never look by itself; this thread does, and ends the process.
 */
import { Socket } from 'node:net';
import { parentPort } from 'node:worker_threads';

/** For the runner to leave by itself, and remove its files. */
const graceMs = 1_000;
const maxTokenBytes = 1_024;

const input = new Socket({ fd: 0, readable: true, writable: false });
let text: string | undefined = '';

input.setEncoding('latin1');
input.on('data', (piece: string) => {
  if (text === undefined) return;
  text += piece;
  const end = text.indexOf('\n');
  if (end < 0 && text.length <= maxTokenBytes) return;
  parentPort?.postMessage({ token: text.slice(0, end < 0 ? 0 : end) });
  text = undefined;
});
input.on('error', () => input.destroy());
input.on('close', () => {
  parentPort?.postMessage({ isGone: true });
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), graceMs);
});
