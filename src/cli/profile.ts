/**
 * Saved ways to reach a link: its control address, the CA certificates that verify it, and the file with the token. Only
 * paths are kept, never a token. One file, 0600, written whole: who could change it could send a token elsewhere.
 */
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { as, nonEmpty } from '../base/settings.js';
import { RollcallError, isRollcallError, systemErrorCode } from '../base/errors.js';
import { makeSecretFolder, readSecretFile, writeWholeFile } from '../base/secret-file.js';
import type { Environment } from './terminal.js';

/** The proxy to reach a link through, as it was typed. */
export interface ProxyChoice {
  /** `URL`, `environment` or `none`. */
  readonly proxy?: string;
  /** Absolute path of the file that holds user:password. */
  readonly proxyCredentialsFile?: string;
  /** Absolute path of a PEM file. */
  readonly proxyRootCertificates?: string;
}

export interface Profile extends ProxyChoice {
  /** `HOST:PORT` of the control port. */
  readonly control?: string;
  /** Absolute path of a PEM file. */
  readonly rootCertificates?: string;
  /** Absolute path of the file that holds the token. */
  readonly tokenFile?: string;
}

/** By name, in the order of the names. */
export type Profiles = ReadonlyMap<string, Profile>;

const proxyKeys = ['proxy', 'proxyCredentialsFile', 'proxyRootCertificates'] as const;
const profileKeys = ['control', 'rootCertificates', 'tokenFile', ...proxyKeys] as const;

/** The profile used when nothing says which link is meant. */
export const defaultProfile = 'default';
const formatVersion = 1;
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** Gives the name back, or throws REQUEST_INVALID. */
export function parseProfileName(name: string): string {
  if (namePattern.test(name)) return name;
  throw new RollcallError(
    'REQUEST_INVALID',
    'a profile name has letters, digits, ".", "_" and "-", at most 63',
  );
}

/** `$ROLLCALL_CONFIG_HOME`, `$XDG_CONFIG_HOME/rollcall` or `~/.config/rollcall`. */
export function configFolder(environment: Environment): string {
  const own = nonEmpty(environment['ROLLCALL_CONFIG_HOME']);
  if (own !== undefined) return own;
  const xdg = environment['XDG_CONFIG_HOME'];
  // The XDG base directory specification ignores a relative path.
  if (xdg?.startsWith('/')) return join(xdg, 'rollcall');
  return join(homeOf(environment), '.config', 'rollcall');
}

/** A user that a container was started as may have neither a variable nor an entry in the list of users. */
function homeOf(environment: Environment): string {
  const home = nonEmpty(environment['HOME']);
  if (home !== undefined) return home;
  try {
    return userInfo().homedir;
  } catch (error) {
    throw new RollcallError('CONFIG_INVALID', 'this user has no home folder', {
      hint: 'set HOME, or ROLLCALL_CONFIG_HOME to a folder for logins and profiles',
      cause: error,
    });
  }
}

function profilesPath(environment: Environment): string {
  return join(configFolder(environment), 'profiles.json');
}

/** Every saved profile; none when nothing was ever saved. */
export async function readProfiles(environment: Environment): Promise<Profiles> {
  const path = profilesPath(environment);
  try {
    return parseProfiles((await readSecretFile(path, 'profile file')).toString('utf8'), path);
  } catch (error) {
    if (isRollcallError(error, 'FILE_UNREADABLE') && isMissing(error.cause)) return new Map();
    throw error;
  }
}

/** There is no such file, or no folder that could hold it. */
export function isMissing(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '');
}

function parseProfiles(text: string, path: string): Profiles {
  const invalid = (why: string) =>
    new RollcallError('CONFIG_INVALID', `${path} ${why}`, { hint: 'remove it and save the profiles again' });
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw invalid('is not JSON');
  }
  if (!isObject(content) || !isObject(content['profiles'])) throw invalid('holds no profiles');
  if (content['version'] !== formatVersion) throw invalid('was written by another version of rollcall');
  const profiles = Object.entries(content['profiles']).map(([name, value]): [string, Profile] => {
    if (!isObject(value) || !namePattern.test(name)) throw invalid(`holds a profile that cannot be read`);
    return [name, profileOf(value, why => invalid(`holds a profile "${name}" ${why}`))];
  });
  return new Map(profiles.sort(([one], [other]) => (one < other ? -1 : 1)));
}

function profileOf(value: Record<string, unknown>, invalid: (why: string) => RollcallError): Profile {
  const profile: Record<string, string> = {};
  for (const key of profileKeys) {
    const field = value[key];
    if (field === undefined) continue;
    if (typeof field !== 'string') throw invalid(`whose ${key} is not text`);
    profile[key] = field;
  }
  return profile;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Writes all profiles in place of what was there. */
export async function writeProfiles(environment: Environment, profiles: Profiles): Promise<void> {
  const content = { version: formatVersion, profiles: Object.fromEntries(profiles) };
  await makeSecretFolder(configFolder(environment));
  await writeWholeFile(profilesPath(environment), `${JSON.stringify(content, undefined, 2)}\n`, {
    overwrite: true,
  });
}

/** The profile of that name, or REQUEST_INVALID with the names there are. */
export function getProfile(profiles: Profiles, name: string): Profile {
  const profile = profiles.get(name);
  if (profile) return profile;
  const names = [...profiles.keys()].join(', ');
  throw new RollcallError('REQUEST_INVALID', `there is no profile "${name}"`, {
    hint: names === '' ? 'make one with rollcall profile save NAME' : `there are: ${names}`,
  });
}

/** The saved settings without the proxy: its credentials are for no other proxy. */
export function withoutProxy(profile: Profile = {}): Profile {
  return Object.fromEntries(Object.entries(profile).filter(([key]) => !proxyKeys.some(each => each === key)));
}

/** One link as text in two spellings: `LOCALHOST:9093` is `localhost:9093`. */
export function isSameAddress(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

/** The names of the profiles saved for this link. */
export function profilesFor(profiles: Profiles, control: string): string[] {
  return [...profiles].flatMap(([name, profile]) =>
    isSameAddress(profile.control ?? '', control) ? [name] : [],
  );
}

/** Checks an address as people type it and gives it back. */
export function parseControlAddress(text: string, where: string): string {
  try {
    as.address(text);
    return text;
  } catch (error) {
    throw new RollcallError(
      'CONFIG_INVALID',
      `${where}: ${error instanceof Error ? error.message : 'expected HOST:PORT'}`,
    );
  }
}
