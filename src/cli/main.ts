#!/usr/bin/env node
/** The command `rollcall`: hands what was typed to the program and ends with its exit code. */
import { systemErrorCode } from '../base/errors.js';
import { refusalOf } from '../base/system-error.js';
import { exitCodes } from './failure.js';
import { runCommand } from './program.js';
import { systemShell } from './shell.js';

// A reader that has seen enough (`rollcall nodes list | head`) ends the command quietly; a full disk does not.
process.stdout.on('error', (error: Error) => {
  const code = systemErrorCode(error) ?? 'unknown';
  if (code !== 'EPIPE') process.stderr.write(`error: cannot write the answer: ${refusalOf(code).reason}\n`);
  process.exit(code === 'EPIPE' ? exitCodes.done : exitCodes.refused);
});
process.stderr.on('error', () => process.exit(exitCodes.refused));

const code = await runCommand(process.argv.slice(2), systemShell());

// Ends once all is written, and does not wait for what may still hang: a peer that never finishes its handshake.
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
