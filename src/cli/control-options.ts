/**
 * Which link is meant, and how to prove who asks: flags first, then the environment, then a profile with its login. A
 * token never comes from the command line, where other users of the machine can see it: only from a file, from
 * ROLLCALL_TOKEN, or from `rollcall login`.
 */
import { resolve } from 'node:path';
import { as, formatAddress } from '../base/settings.js';
import { RollcallError } from '../base/errors.js';
import { readSecretFile, readSmallFile } from '../base/secret-file.js';
import { fromPem } from '../base/pem.js';
import type { HttpTarget } from '../control-client/http-target.js';
import { parseToken, type TokenSource } from '../control-client/tokens.js';
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
  readonly target: HttpTarget;
  readonly tokens: TokenSource;
}

export const defaultControl = '127.0.0.1:9093';
/** A token of a service with many roles is the longest. */
const tokenFileBytes = 16 * 1024;

interface Chosen {
  /** What was saved under it. */
  readonly profile: Profile;
  /** Whose login counts; undefined where the link was named otherwise. */
  readonly name: string | undefined;
}

/**
 * The profile that counts. A named one always; the default one only while neither flag nor environment names a link,
 * so that its token is not sent to a link it was not meant for.
 */
async function chooseProfile(flags: ControlFlags, environment: Environment): Promise<Chosen> {
  const name = flags.profile ?? nonEmpty(environment['ROLLCALL_PROFILE']);
  if (name !== undefined) return { profile: getProfile(await readProfiles(environment), name), name };
  if (flags.control !== undefined || nonEmpty(environment['ROLLCALL_CONTROL']) !== undefined)
    return { profile: {}, name: undefined };
  return { profile: (await readProfiles(environment)).get(defaultProfile) ?? {}, name: defaultProfile };
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/** The profile that a login is kept under. */
export function loginProfile(flags: ControlFlags, environment: Environment): string {
  return flags.profile ?? nonEmpty(environment['ROLLCALL_PROFILE']) ?? defaultProfile;
}

/** Flag over environment over profile: the link and its roots, without reading any file but the profiles. */
export async function resolveTarget(
  flags: ControlFlags,
  environment: Environment,
): Promise<{ readonly control: string; readonly rootCertificates: string; readonly chosen: Chosen }> {
  const chosen = await chooseProfile(flags, environment);
  const control =
    flags.control ?? nonEmpty(environment['ROLLCALL_CONTROL']) ?? chosen.profile.control ?? defaultControl;
  const roots =
    flags.rootCertificates ??
    nonEmpty(environment['ROLLCALL_ROOT_CERTIFICATES']) ??
    chosen.profile.rootCertificates;
  if (roots === undefined) {
    throw new RollcallError('CONFIG_INVALID', `nothing says which roots vouch for the link at ${control}`, {
      hint: 'give --root-certificates FILE, or log in with it once: rollcall login --root-certificates FILE',
    });
  }
  return { control, rootCertificates: resolve(roots), chosen };
}

/** Where to ask: the address parsed, the roots checked to be certificates. */
export async function openTarget(control: string, rootCertificates: string): Promise<HttpTarget> {
  const address = as.address(parseControlAddress(control, 'the control address'));
  const roots = await readSmallFile(rootCertificates, 'root certificates');
  fromPem(roots.toString('latin1'), `root certificates ${rootCertificates}`);
  return {
    address,
    addressText: formatAddress(address),
    roots,
    rootsPath: rootCertificates,
    names: { address: '--control', roots: '--root-certificates' },
  };
}

/** Resolves and reads everything. */
export async function openControlSettings(
  flags: ControlFlags,
  environment: Environment,
): Promise<ControlSettings> {
  const { control, rootCertificates, chosen } = await resolveTarget(flags, environment);
  const target = await openTarget(control, rootCertificates);
  return { target, tokens: await findTokens(flags, environment, chosen, control, target) };
}

async function findTokens(
  flags: ControlFlags,
  environment: Environment,
  { profile, name }: Chosen,
  control: string,
  target: HttpTarget,
): Promise<TokenSource> {
  const fixed = (token: string, origin: string): TokenSource => {
    return { get: () => token, refusedHint: refusedHint(origin, target) };
  };
  const given = nonEmpty(environment['ROLLCALL_TOKEN']);
  const path =
    flags.tokenFile ?? (given === undefined ? nonEmpty(environment['ROLLCALL_TOKEN_FILE']) : undefined);
  if (path !== undefined) return fixed(await readToken(resolve(path)), resolve(path));
  if (given !== undefined) return fixed(parseToken(given, 'ROLLCALL_TOKEN'), 'ROLLCALL_TOKEN');
  const { findLogin, openLogin } = await import('./login-store.js');
  const login = name === undefined ? undefined : await findLogin(environment, name);
  if (login && name !== undefined && login.control === control) {
    const get = await openLogin(environment, name, login, target);
    return { get, refusedHint: refusedHint(`the login of ${login.user}`, target) };
  }
  if (profile.tokenFile !== undefined) {
    return fixed(await readToken(resolve(profile.tokenFile)), resolve(profile.tokenFile));
  }
  throw new RollcallError('CONFIG_INVALID', `nobody is logged in to the link at ${control}`, {
    hint:
      name === undefined
        ? 'a login is kept with a profile: leave out --control, or name one with --profile; or give --token-file FILE'
        : 'log in with rollcall login; or give --token-file FILE or ROLLCALL_TOKEN',
  });
}

function refusedHint(origin: string, { addressText }: HttpTarget): string {
  return `the token came from ${origin}; log in again with rollcall login, or give one for the link at ${addressText}`;
}

async function readToken(path: string): Promise<string> {
  const token = (await readSecretFile(path, 'token file', tokenFileBytes)).toString('latin1').trim();
  return parseToken(token, `the token file ${path}`);
}
