/**
 * The least a node could be: connects with a certificate it has already and is welcomed. Plain JavaScript, since its
 * start is measured.
 *
 *   node bench/bare/agent.js PORT CA CERTIFICATE KEY
 */
import { readFileSync } from 'node:fs';
import { credentials } from '@grpc/grpc-js';
import { LinkClient } from '../../dist/src/protocol/generated/rollcall/v1/link.js';

const [port, ca, certificate, key] = process.argv.slice(2);
const identity = credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(certificate));
const call = new LinkClient(`localhost:${port}`, identity).connect();
call.on('error', () => process.exit(1));
call.on('data', ({ frame }) => {
  if (frame?.$case !== 'ping') return;
  call.write({ frame: { $case: 'pong', value: { sequence: frame.value.sequence } } });
});
const value = { protocolVersion: 1, agentVersion: 'bare', nodeClockMs: 0n };
call.write({ frame: { $case: 'ready', value } });
