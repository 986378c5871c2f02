/**
 * The minimal node: connects with an existing certificate, is welcomed, and returns every message. Plain JavaScript,
 * since its start is measured.
 *
 *   node bench/bare/agent.js PORT CA CERTIFICATE KEY
 */
import { readFileSync } from 'node:fs';
import { Client, credentials } from '@grpc/grpc-js';
import { LinkFrame, NodeFrame } from '../../dist/src/protocol/generated/rollcall/v1/link.js';

const [port, ca, certificate, key] = process.argv.slice(2);
const identity = credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(certificate));
const call = new Client(`localhost:${port}`, identity).makeBidiStreamRequest(
  '/rollcall.bench.Node/Connect',
  frame => Buffer.from(NodeFrame.encode(frame).finish()),
  bytes => LinkFrame.decode(bytes),
);
call.on('error', () => process.exit(1));
call.on('data', ({ frame }) => {
  if (frame?.$case === 'deliver') answer(frame.value);
  if (frame?.$case !== 'ping') return;
  call.write({ frame: { $case: 'pong', value: { sequence: frame.value.sequence } } });
});
function answer({ run, message, body }) {
  call.write({ frame: { $case: 'reply', value: { run, message, outcome: { $case: 'body', value: body } } } });
}

const value = { protocolVersion: 1, agentVersion: 'bare', nodeClockMs: 0n, runs: [] };
call.write({ frame: { $case: 'ready', value } });
