/** `rollcall profile save|list|show|remove`: keeps how to reach a link, so that it need not be typed each time. */
import { access, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { readProxy, type ControlFlags } from './control-options.js';
import { exitCodes, usageError } from './failure.js';
import {
  defaultProfile,
  getProfile,
  parseControlAddress,
  parseProfileName,
  readProfiles,
  withoutProxy,
  writeProfiles,
  type Profile,
  type ProxyChoice,
} from './profile.js';
import { printDone, printFacts, printJson, printTable } from './access/showing.js';
import { printHint, type Shell } from './shell.js';
import { loginPath } from './login-store.js';
import type { Column } from './table.js';
import type { Fact } from './wrap.js';

export interface JsonFlag {
  readonly json?: boolean;
}

/** A setting that is left out stays as it was saved. */
export async function saveProfile(
  shell: Shell,
  typedName: string,
  flags: ControlFlags & JsonFlag,
): Promise<number> {
  const name = parseProfileName(typedName);
  const given: Profile = {
    ...(flags.control !== undefined && { control: parseControlAddress(flags.control, '--control') }),
    ...(flags.rootCertificates !== undefined && { rootCertificates: resolve(flags.rootCertificates) }),
    ...(flags.tokenFile !== undefined && { tokenFile: resolve(flags.tokenFile) }),
    ...proxyOf(flags),
  };
  if (Object.keys(given).length === 0) {
    throw usageError(
      'a profile needs at least one of --control, --root-certificates, --token-file and --proxy',
    );
  }
  const profiles = await readProfiles(shell.environment);
  const before = flags.proxy === undefined ? profiles.get(name) : withoutProxy(profiles.get(name));
  const saved = { ...before, ...given };
  await writeProfiles(shell.environment, new Map(profiles).set(name, saved));
  if (flags.json) printJson(shell, profileJson(name, saved));
  else printDone(shell, `Profile ${name} saved.`);
  const { rootCertificates, tokenFile, proxyCredentialsFile, proxyRootCertificates } = given;
  for (const path of [rootCertificates, tokenFile, proxyCredentialsFile, proxyRootCertificates]) {
    if (path !== undefined && !(await exists(path))) printHint(shell, `${path} is not there yet`);
  }
  if (name !== defaultProfile) printHint(shell, `use it with --profile ${name}, or ROLLCALL_PROFILE=${name}`);
  return exitCodes.done;
}

function proxyOf({ proxy, proxyCredentialsFile, proxyRootCertificates }: ControlFlags): ProxyChoice {
  readProxy(proxy);
  return {
    ...(proxy !== undefined && { proxy }),
    ...(proxyCredentialsFile !== undefined && { proxyCredentialsFile: resolve(proxyCredentialsFile) }),
    ...(proxyRootCertificates !== undefined && { proxyRootCertificates: resolve(proxyRootCertificates) }),
  };
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

const columns: readonly Column[] = [
  { header: 'Profile' },
  { header: 'Control' },
  { header: 'Root Certificates', clipTo: 17 },
  { header: 'Token File', clipTo: 12, dropRank: 1 },
];

export async function listProfiles(shell: Shell, { json }: JsonFlag): Promise<number> {
  const profiles = [...(await readProfiles(shell.environment))];
  if (json) {
    printJson(
      shell,
      profiles.map(([name, profile]) => profileJson(name, profile)),
    );
    return exitCodes.done;
  }
  const rows = profiles.map(([name, { control = '', rootCertificates = '', tokenFile = '' }]) => {
    return [name, control, rootCertificates, tokenFile];
  });
  printTable(shell, columns, rows);
  if (rows.length === 0)
    printHint(shell, 'no profile is saved; save one with rollcall profile save default …');
  return exitCodes.done;
}

export async function showProfile(shell: Shell, name: string, { json }: JsonFlag): Promise<number> {
  const profile = getProfile(await readProfiles(shell.environment), name);
  if (json) {
    printJson(shell, profileJson(name, profile));
    return exitCodes.done;
  }
  const facts: Fact[] = [
    ['Profile', name],
    ['Control', profile.control ?? ''],
    ['Root certificates', profile.rootCertificates ?? ''],
    ['Token file', profile.tokenFile ?? ''],
    ['Proxy', profile.proxy ?? ''],
    ['Proxy credentials', profile.proxyCredentialsFile ?? ''],
    ['Proxy roots', profile.proxyRootCertificates ?? ''],
  ];
  printFacts(
    shell,
    facts.filter(([, value]) => value !== ''),
    0,
  );
  return exitCodes.done;
}

export async function removeProfile(shell: Shell, name: string, { json }: JsonFlag): Promise<number> {
  const profiles = new Map(await readProfiles(shell.environment));
  getProfile(profiles, name);
  profiles.delete(name);
  await writeProfiles(shell.environment, profiles);
  // Its tokens are of no more use, and should not lie about.
  await rm(loginPath(shell.environment, name), { force: true });
  if (json) printJson(shell, { removed: name });
  else printDone(shell, `Profile ${name} removed.`);
  return exitCodes.done;
}

function profileJson(name: string, profile: Profile): Record<string, unknown> {
  return {
    name,
    control: profile.control ?? null,
    rootCertificates: profile.rootCertificates ?? null,
    tokenFile: profile.tokenFile ?? null,
    proxy: profile.proxy ?? null,
    proxyCredentialsFile: profile.proxyCredentialsFile ?? null,
    proxyRootCertificates: profile.proxyRootCertificates ?? null,
  };
}
