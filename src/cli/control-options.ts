/**
 * Which link is meant, and how to prove who asks: flags first, then the environment, then a profile with its login. A
 * token never comes from the command line, where other users of the machine can see it: only from a file, from
 * ROLLCALL_TOKEN, or from `rollcall login`.
 */
import { resolve } from 'node:path';
import { as, formatAddress } from '../base/settings.js';
import { RollcallError } from '../base/errors.js';
import { loadRoute, parseProxy, type ProxySetting } from '../base/proxy.js';
import { readSecretFile, readSmallFile } from '../base/secret-file.js';
import { fromPem } from '../base/pem.js';
import type { HttpTarget } from '../control-client/http-target.js';
import { parseToken, type TokenSource } from '../control-client/tokens.js';
import { usageError } from './failure.js';
import {
  defaultProfile,
  getProfile,
  parseControlAddress,
  readProfiles,
  type Profile,
  type ProxyChoice,
} from './profile.js';
import type { Environment } from './terminal.js';

/** As the flags of every command that asks a link. */
export interface ControlFlags extends ProxyChoice {
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

export interface ResolvedTarget {
  readonly control: string;
  readonly rootCertificates: string;
  readonly proxy: ProxyChoice;
  readonly chosen: Chosen;
}

/** Flag over environment over profile: the link and the way there, without reading any file but the profiles. */
export async function resolveTarget(flags: ControlFlags, environment: Environment): Promise<ResolvedTarget> {
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
  const proxy = resolveProxy(flags, environment, chosen.profile);
  return { control, rootCertificates: resolve(roots), proxy, chosen };
}

/** What a profile holds for its proxy counts only while no other is named. */
function resolveProxy(flags: ControlFlags, environment: Environment, profile: Profile): ProxyChoice {
  const named = flags.proxy ?? nonEmpty(environment['ROLLCALL_PROXY']);
  const saved = named === undefined ? profile : {};
  const proxy = named ?? saved.proxy;
  if (proxy === undefined) {
    if (flags.proxyCredentialsFile === undefined) return {};
    throw usageError('--proxy is needed with --proxy-credentials-file');
  }
  const credentials =
    flags.proxyCredentialsFile ??
    nonEmpty(environment['ROLLCALL_PROXY_CREDENTIALS_FILE']) ??
    saved.proxyCredentialsFile;
  const roots =
    flags.proxyRootCertificates ??
    nonEmpty(environment['ROLLCALL_PROXY_ROOT_CERTIFICATES']) ??
    saved.proxyRootCertificates;
  return {
    proxy,
    ...(credentials !== undefined && { proxyCredentialsFile: resolve(credentials) }),
    ...(roots !== undefined && { proxyRootCertificates: resolve(roots) }),
  };
}

/** Where to ask: the address and the proxy parsed, the roots checked to be certificates. */
export async function openTarget(
  { control, rootCertificates, proxy }: Omit<ResolvedTarget, 'chosen'>,
  environment: Environment,
): Promise<HttpTarget> {
  const address = as.address(parseControlAddress(control, 'the control address'));
  const roots = await readSmallFile(rootCertificates, 'root certificates');
  fromPem(roots.toString('latin1'), `root certificates ${rootCertificates}`);
  const route = await loadRoute(
    { credentialsFile: proxy.proxyCredentialsFile, rootsFile: proxy.proxyRootCertificates },
    { setting: readProxy(proxy.proxy), environment, link: address },
  );
  return {
    address,
    addressText: formatAddress(address),
    route,
    roots,
    rootsPath: rootCertificates,
    names: { address: '--control', roots: '--root-certificates' },
  };
}

/** Checks a proxy as people type it. */
export function readProxy(text: string | undefined): ProxySetting | undefined {
  try {
    return text === undefined ? undefined : parseProxy(text);
  } catch (error) {
    throw new RollcallError('CONFIG_INVALID', `the proxy: ${(error as Error).message}`, { cause: error });
  }
}

/** Resolves and reads everything. */
export async function openControlSettings(
  flags: ControlFlags,
  environment: Environment,
): Promise<ControlSettings> {
  const resolved = await resolveTarget(flags, environment);
  const target = await openTarget(resolved, environment);
  const { chosen, control } = resolved;
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
