/** What tests and benchmarks of real processes ask of a link, over its control port. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Metadata, credentials } from '@grpc/grpc-js';
import { ControlClient } from '../../src/protocol/generated/rollcall/v1/control.js';
import { controlCalls, type ControlCalls } from './control-calls.js';

/** `control` is host:port; the token is read from the data folder. */
export async function connectOperator(control: string, dataDir: string, ca: string): Promise<ControlCalls> {
  const token = (await readFile(join(dataDir, 'admin-token'), 'utf8')).trim();
  const port = control.slice(control.lastIndexOf(':'));
  const client = new ControlClient(`localhost${port}`, credentials.createSsl(Buffer.from(ca)));
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return controlCalls(client, metadata);
}
