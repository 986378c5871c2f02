/** nats-server beside ours: mutual TLS on loopback, nothing stored, nothing logged. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatSpiffeId } from '../../src/identity/spiffe.js';
import { startProgram, untilListening } from '../programs.js';
import type { RunningSubject, Stage, Subject } from '../stage.js';
import { freePort, trustDomain } from '../workplace.js';
import { findCommand } from './installed.js';

export const natsSubject: Subject = { dialect: 'nats', start: stage => startNats(stage) };

export interface RunningNats extends RunningSubject {
  /** Lets only these nodes stay, at the next SIGHUP. */
  allow(nodes: readonly number[]): Promise<void>;
}

/**
 * Accepts every client with a certificate; or, when nodes are given, only these, by the SPIFFE id in the certificate.
 */
export async function startNats(
  stage: Stage,
  nodes?: readonly number[],
): Promise<RunningNats | { missing: string }> {
  const command = findCommand('nats-server');
  if (command === undefined) return { missing: 'nats-server is not installed' };
  const { place } = stage;
  const port = await freePort();
  const file = join(place.folder, `nats-${port}.conf`);
  const allow = (some?: readonly number[]) => writeFile(file, configOf(stage, port, some));
  await allow(nodes);
  const logFile = join(place.folder, `nats-${port}.log`);
  const program = startProgram(command, ['--config', file, '--log', logFile], { logFile });
  place.onClose(() => program.stop('SIGKILL'));
  await untilListening(port, program);
  return { program, port, allow, stop: () => program.stop('SIGKILL') };
}

/** Pings as often as the link does. Matching users by certificate costs more, so it is on only where it is needed. */
function configOf({ place, authorityFile }: Stage, port: number, nodes?: readonly number[]): string {
  const users = nodes?.map(node => `  { user: "${formatSpiffeId(trustDomain, BigInt(node))}" }`).join('\n');
  return `
listen: 127.0.0.1:${port}
max_connections: 30000
ping_interval: "9s"
tls {
  cert_file: "${place.serverCertificateFile}"
  key_file: "${place.serverKeyFile}"
  ca_file: "${authorityFile}"
  timeout: 10
  ${users === undefined ? 'verify: true' : 'verify_and_map: true'}
}
${users === undefined ? '' : `authorization { users = [\n${users}\n] }`}
`;
}
