/**
 * Which link is meant, and how to prove who asks: flags first, then the environment, then a profile. A token never
 * comes from the command line, where other users of the machine can see it, only from a file.
 */
import { resolve } from 'node:path';
import { as, formatAddress, type Address } from '../base/settings.js';
import { RollcallError } from '../base/errors.js';
import { readSecretFile, readSmallFile } from '../base/secret-file.js';
import { fromPem } from '../base/pem.js';
import { defaultProfile, getProfile, parseControlAddress, readProfiles, type Profile } from './profile.js';
import type { Environment } from './terminal.js';

/** As the flags of every command that asks a link. */
export interface ControlFlags {
  readonly control?: string;
  readonly rootCertificates?: string;
  readonly tokenFile?: string;
  readonly profile?: string;
}

/** Everything needed to ask a link. */
export interface ControlSettings {
  readonly address: Address;
  /** `host:port`, for messages. */
  readonly addressText: string;
  /** PEM. */
  readonly roots: Buffer;
  readonly rootsPath: string;
  readonly token: string;
  readonly tokenPath: string;
}

export const defaultControl = '127.0.0.1:9093';
const tokenFileBytes = 4096;

/**
 * The profile that counts. A named one always; the default one only while neither flag nor environment names a link,
 * so that its token is not sent to a link it was not meant for.
 */
async function chooseProfile(flags: ControlFlags, environment: Environment): Promise<Profile> {
  const name = flags.profile ?? nonEmpty(environment['ROLLCALL_PROFILE']);
  if (name !== undefined) return getProfile(await readProfiles(environment), name);
  if (flags.control !== undefined || nonEmpty(environment['ROLLCALL_CONTROL']) !== undefined) return {};
  return (await readProfiles(environment)).get(defaultProfile) ?? {};
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/** Flag over environment over profile, without reading any file but the profiles. */
export async function resolveControl(
  flags: ControlFlags,
  environment: Environment,
): Promise<Required<Profile>> {
  const profile = await chooseProfile(flags, environment);
  const control =
    flags.control ?? nonEmpty(environment['ROLLCALL_CONTROL']) ?? profile.control ?? defaultControl;
  const roots =
    flags.rootCertificates ?? nonEmpty(environment['ROLLCALL_ROOT_CERTIFICATES']) ?? profile.rootCertificates;
  const token = flags.tokenFile ?? nonEmpty(environment['ROLLCALL_TOKEN_FILE']) ?? profile.tokenFile;
  const problems: string[] = [];
  if (roots === undefined) problems.push(`nothing says which roots vouch for the link at ${control}`);
  if (token === undefined) problems.push(`nothing says which token to show to the link at ${control}`);
  if (roots === undefined || token === undefined) {
    throw new RollcallError('CONFIG_INVALID', problems.join('\n'), {
      hint:
        'give --root-certificates FILE and --token-file FILE (admin-token in the data folder of the link), ' +
        'or keep them with: rollcall profile save default --root-certificates FILE --token-file FILE',
    });
  }
  return { control, rootCertificates: resolve(roots), tokenFile: resolve(token) };
}

/** Resolves and reads: the address parsed, the roots checked to be certificates, the token from its 0600 file. */
export async function openControlSettings(
  flags: ControlFlags,
  environment: Environment,
): Promise<ControlSettings> {
  const { control, rootCertificates, tokenFile } = await resolveControl(flags, environment);
  const address = as.address(parseControlAddress(control, 'the control address'));
  const roots = await readSmallFile(rootCertificates, 'root certificates');
  fromPem(roots.toString('latin1'), `root certificates ${rootCertificates}`);
  const token = await readToken(tokenFile);
  const addressText = formatAddress(address);
  return { address, addressText, roots, rootsPath: rootCertificates, token, tokenPath: tokenFile };
}

/** The token alone, which must be one that can travel in a header. The message never quotes what was found. */
async function readToken(path: string): Promise<string> {
  const token = (await readSecretFile(path, 'token file', tokenFileBytes)).toString('latin1').trim();
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new RollcallError('CONFIG_INVALID', `the token file ${path} does not hold a token`, {
    hint: 'it wants the token alone, on one line',
  });
}
