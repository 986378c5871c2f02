/**
 * Which link is meant, and how to prove who asks: flags first, then the environment, then a profile with its login. A
 * token never comes from the command line, where other users of the machine can see it: only from a file, from
 * ROLLCALL_TOKEN, or from `rollcall login`.
 */
import { resolve } from 'node:path';
import { as, formatAddress, nonEmpty } from '../base/settings.js';
import { RollcallError } from '../base/errors.js';
import { loadRoute, parseProxy, type ProxySetting } from '../base/proxy.js';
import { readSecretFile, readSmallFile, type Warn } from '../base/secret-file.js';
import { fromPem } from '../base/pem.js';
import type { HttpTarget } from '../control-client/http-target.js';
import { parseToken, type TokenSource } from '../control-client/tokens.js';
import { usageError } from './failure.js';
import {
  defaultProfile,
  getProfile,
  isSameAddress,
  parseControlAddress,
  profilesFor,
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
  /** The settings saved under it. */
  readonly profile: Profile;
  /** The profile whose login is used; undefined when no saved profile is for the link that was named. */
  readonly name: string | undefined;
}

/**
 * The profile that counts: the one that was named, otherwise the one saved for the link that was named, otherwise the
 * default one. A link that no profile is for gets no profile, so that no token is sent where it was not meant for.
 */
async function chooseProfile(flags: ControlFlags, environment: Environment): Promise<Chosen> {
  const profiles = await readProfiles(environment);
  const named = namedProfile(flags, environment);
  if (named !== undefined) return { profile: getProfile(profiles, named), name: named };
  const control = namedControl(flags, environment);
  if (control === undefined) return { profile: profiles.get(defaultProfile) ?? {}, name: defaultProfile };
  const names = profilesFor(profiles, control);
  const name = chooseName(names);
  if (name !== undefined) return { profile: profiles.get(name) ?? {}, name };
  // Several logins at one link: its roots are known all the same.
  const roots = profiles.get(names[0] ?? '')?.rootCertificates;
  return { profile: roots === undefined ? {} : { rootCertificates: roots }, name };
}

/** Of the profiles for one link: the default one, or the only one. */
function chooseName(names: readonly string[]): string | undefined {
  if (names.includes(defaultProfile)) return defaultProfile;
  return names.length === 1 ? names[0] : undefined;
}

function namedProfile(flags: ControlFlags, environment: Environment): string | undefined {
  return flags.profile ?? nonEmpty(environment['ROLLCALL_PROFILE']);
}

function namedControl(flags: ControlFlags, environment: Environment): string | undefined {
  return flags.control ?? nonEmpty(environment['ROLLCALL_CONTROL']);
}

/** The profile that a login is kept under: chosen as for a question, and the default one for a new link. */
export async function loginProfile(flags: ControlFlags, environment: Environment): Promise<string> {
  const named = namedProfile(flags, environment);
  if (named !== undefined) return named;
  const control = namedControl(flags, environment);
  if (control === undefined) return defaultProfile;
  return chooseName(profilesFor(await readProfiles(environment), control)) ?? defaultProfile;
}

export interface ResolvedTarget {
  readonly control: string;
  readonly rootCertificates: string;
  readonly proxy: ProxyChoice;
  readonly chosen: Chosen;
}

/** Flag over environment over profile: the link and the way there, without reading any file but the profiles. */
export async function resolveTarget(
  flags: ControlFlags,
  environment: Environment,
  /** The hint when no roots are named. */
  refuse: typeof missingRoots = missingRoots,
): Promise<ResolvedTarget> {
  const chosen = await chooseProfile(flags, environment);
  const control = namedControl(flags, environment) ?? chosen.profile.control ?? defaultControl;
  const roots =
    flags.rootCertificates ??
    nonEmpty(environment['ROLLCALL_ROOT_CERTIFICATES']) ??
    chosen.profile.rootCertificates;
  if (roots === undefined) throw await refuse(control, { flags, environment, chosen });
  const proxy = resolveProxy(flags, environment, chosen.profile);
  return { control, rootCertificates: resolve(roots), proxy, chosen };
}

interface Situation {
  readonly flags: ControlFlags;
  readonly environment: Environment;
  readonly chosen: Chosen;
}

async function missingRoots(control: string, { environment, chosen }: Situation): Promise<RollcallError> {
  return new RollcallError('CONFIG_INVALID', `no root certificates are known for the link at ${control}`, {
    hint: await orSavedLogin(
      environment,
      chosen.name,
      'give --root-certificates FILE, the CA certificate of the link, such as certificates/ca.crt',
    ),
  });
}

/** A user without a token needs a login as well, and names the roots there. */
function refuseWithoutRoots(control: string, situation: Situation): Promise<RollcallError> {
  const { flags, environment, chosen } = situation;
  const tokens = [flags.tokenFile, environment['ROLLCALL_TOKEN'], environment['ROLLCALL_TOKEN_FILE']];
  const hasToken = [...tokens, chosen.profile.tokenFile].some(each => nonEmpty(each) !== undefined);
  return (hasToken ? missingRoots : missingLogin)(control, situation);
}

async function missingLogin(
  control: string,
  { flags, environment, chosen }: Situation,
): Promise<RollcallError> {
  const knowsRoots = chosen.profile.rootCertificates ?? nonEmpty(environment['ROLLCALL_ROOT_CERTIFICATES']);
  const parts = [
    ...['rollcall', 'login'],
    ...(flags.profile === undefined ? [] : ['--profile', flags.profile]),
    ...(flags.control === undefined ? [] : ['--control', flags.control]),
    ...(knowsRoots === undefined ? ['--root-certificates', flags.rootCertificates ?? 'FILE'] : []),
  ];
  return new RollcallError('CONFIG_INVALID', `nobody is logged in to the link at ${control}`, {
    hint: await orSavedLogin(
      environment,
      chosen.name,
      `log in first: ${parts.join(' ')} (the first admin adds --setup); or give --token-file FILE or ROLLCALL_TOKEN`,
    ),
  });
}

/** The proxy settings of a profile are used only while no other proxy is named. */
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

/** The link to ask: the address and the proxy parsed, the roots checked to be certificates. */
export async function openTarget(
  { control, rootCertificates, proxy }: Omit<ResolvedTarget, 'chosen'>,
  environment: Environment,
  warn?: Warn,
): Promise<HttpTarget> {
  const address = as.address(parseControlAddress(control, 'the control address'));
  const roots = await readSmallFile(rootCertificates, 'root certificates');
  fromPem(roots.toString('latin1'), `root certificates ${rootCertificates}`);
  const route = await loadRoute(
    { credentialsFile: proxy.proxyCredentialsFile, rootsFile: proxy.proxyRootCertificates, warn },
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
  warn?: Warn,
): Promise<ControlSettings> {
  const resolved = await resolveTarget(flags, environment, refuseWithoutRoots);
  const target = await openTarget(resolved, environment, warn);
  const { chosen, control } = resolved;
  return { target, tokens: await findTokens(flags, { environment, warn }, chosen, control, target) };
}

async function findTokens(
  flags: ControlFlags,
  { environment, warn }: { readonly environment: Environment; readonly warn: Warn | undefined },
  chosen: Chosen,
  control: string,
  target: HttpTarget,
): Promise<TokenSource> {
  const { profile, name } = chosen;
  const fixed = (token: string, origin: string): TokenSource => {
    return { get: () => token, refusedHint: refusedHint(origin, target) };
  };
  const given = nonEmpty(environment['ROLLCALL_TOKEN']);
  const path =
    flags.tokenFile ?? (given === undefined ? nonEmpty(environment['ROLLCALL_TOKEN_FILE']) : undefined);
  if (path !== undefined) return fixed(await readToken(resolve(path), warn), resolve(path));
  if (given !== undefined) return fixed(parseToken(given, 'ROLLCALL_TOKEN'), 'ROLLCALL_TOKEN');
  const { findLogin, openLogin } = await import('./login-store.js');
  const login = name === undefined ? undefined : await findLogin(environment, name);
  if (login && name !== undefined && isSameAddress(login.control, control)) {
    const get = await openLogin(environment, name, login, target);
    return { get, refusedHint: refusedHint(`the login of ${login.user}`, target) };
  }
  if (profile.tokenFile !== undefined) {
    return fixed(await readToken(resolve(profile.tokenFile), warn), resolve(profile.tokenFile));
  }
  throw await missingLogin(control, { flags, environment, chosen });
}

/** The hint, after the logins that are there for other links, or of others for this one. */
async function orSavedLogin(
  environment: Environment,
  name: string | undefined,
  hint: string,
): Promise<string> {
  if (name !== undefined) return hint;
  const profiles = [...(await readProfiles(environment))];
  const known = profiles.map(([each, { control = defaultControl }]) => `${each} (${control})`).join(', ');
  return known === '' ? hint : `name a saved login with --profile: ${known}; or ${hint}`;
}

function refusedHint(origin: string, { addressText }: HttpTarget): string {
  return `the token came from ${origin}; log in again with rollcall login, or give one for the link at ${addressText}`;
}

async function readToken(path: string, warn: Warn | undefined): Promise<string> {
  const bytes = await readSecretFile(path, 'token file', tokenFileBytes, warn);
  const token = bytes.toString('latin1').trim();
  return parseToken(token, `the token file ${path}`);
}
