/** mosquitto beside ours: mutual TLS on loopback, nothing stored, nothing logged. */
import { pbkdf2Sync, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startProgram, untilListening } from '../programs.js';
import type { RunningSubject, Stage, Subject } from '../stage.js';
import { freePort } from '../workplace.js';
import { findCommand } from './installed.js';

export const mosquittoSubject: Subject = { dialect: 'mqtt', start: stage => startMosquitto(stage) };

export interface RunningMosquitto extends RunningSubject {
  /** Lets only these users stay, at the next SIGHUP. */
  allow(users: readonly string[]): Promise<void>;
}

/** Accepts every client with a certificate; or, when users are given, only these, who have a password as well. */
export async function startMosquitto(
  stage: Stage,
  users?: readonly string[],
): Promise<RunningMosquitto | { missing: string }> {
  const command = findCommand('mosquitto');
  if (command === undefined) return { missing: 'mosquitto is not installed' };
  const { place } = stage;
  const port = await freePort();
  const passwordFile = join(place.folder, `mosquitto-${port}.passwords`);
  const hashes = new Map(users?.map(user => [user, passwordLine(user)]));
  const allow = (some: readonly string[]) =>
    writeFile(passwordFile, some.map(user => `${user}:${hashes.get(user) ?? ''}\n`).join(''), {
      mode: 0o600,
    });
  if (users) await allow(users);
  const file = join(place.folder, `mosquitto-${port}.conf`);
  await writeFile(file, configOf(stage, port, users && passwordFile));
  const logFile = join(place.folder, `mosquitto-${port}.log`);
  const program = startProgram(command, ['-c', file], { logFile });
  place.onClose(() => program.stop('SIGKILL'));
  await untilListening(port, program);
  return { program, port, allow, stop: () => program.stop('SIGKILL') };
}

/** It drops to a user of its own when root starts it, who could not read the folder. */
function configOf({ place, authorityFile }: Stage, port: number, passwordFile?: string): string {
  const admission =
    passwordFile === undefined
      ? 'use_identity_as_username true'
      : `allow_anonymous false\npassword_file ${passwordFile}`;
  return `
${process.getuid?.() === 0 ? 'user root' : ''}
listener ${port} 127.0.0.1
max_connections -1
cafile ${authorityFile}
certfile ${place.serverCertificateFile}
keyfile ${place.serverKeyFile}
require_certificate true
${admission}
persistence false
log_dest none
`;
}

/** As mosquitto_passwd writes it; the password is the name of the user. */
function passwordLine(user: string): string {
  const rounds = 101;
  const salt = randomBytes(12);
  const hash = pbkdf2Sync(user, salt, rounds, 64, 'sha512');
  return `$7$${rounds}$${salt.toString('base64')}$${hash.toString('base64')}`;
}
