/**
 * The minimal command that requests a page of nodes and prints it. Plain JavaScript, since its start is measured.
 *
 *   node bench/bare/list.js PORT CA
 */
import { readFileSync } from 'node:fs';
import { credentials } from '@grpc/grpc-js';
import { ControlClient } from '../../dist/src/protocol/generated/rollcall/v1/control.js';

const [port, ca] = process.argv.slice(2);
const client = new ControlClient(`localhost:${port}`, credentials.createSsl(readFileSync(ca)));
const query = { statuses: [], labels: {}, text: '', pageSize: 100, pageToken: '' };
client.listNodes(query, (error, answer) => {
  if (error) throw error;
  process.stdout.write(answer.nodes.map(node => `${node.id} ${node.status} ${node.reason}\n`).join(''));
  client.close();
});
