/** `rollcall login`, `logout` and `whoami`. */
import { isRollcallError, RollcallError } from '../base/errors.js';
import { nonEmpty } from '../base/settings.js';
import { askHttp, createAsk } from '../control-client/control-http.js';
import type { HttpTarget } from '../control-client/http-target.js';
import { askMe } from '../control-client/own-account.js';
import { askNewPassword, askOwnPassword, maxTries } from './access/passwords.js';
import {
  loginProfile,
  openControlSettings,
  openTarget,
  resolveTarget,
  type ControlFlags,
  type ResolvedTarget,
} from './control-options.js';
import { exitCodes } from './failure.js';
import { momentOrNull, printDone, printFacts, printJson } from './access/showing.js';
import { formatMoment } from './format.js';
import {
  commandProgram,
  findLogin,
  loginFrom,
  removeLogin,
  saveLogin,
  type Login,
  type TokenAnswer,
} from './login-store.js';
import { parseProfileName, readProfiles, withoutProxy, writeProfiles } from './profile.js';
import { ask, askSecret } from './prompt.js';
import { startProgress } from './progress.js';
import { printHint, warnOn, type Shell } from './shell.js';
import type { Environment } from './terminal.js';
import type { Fact } from './wrap.js';

export interface LoginFlags extends ControlFlags {
  readonly user?: string;
  readonly tenant?: string;
  readonly passwordFile?: string;
  readonly code?: string;
  /** Make the first admin by the setup code. */
  readonly setup?: boolean;
  readonly setupCodeFile?: string;
  readonly json?: boolean;
}

interface Entered {
  readonly user: string;
  readonly password: string;
}

/** Logs in, and keeps the login and the way to the link under the profile. */
export async function login(shell: Shell, flags: LoginFlags): Promise<number> {
  const profile = parseProfileName(await loginProfile(flags, shell.environment));
  const profiles = await readProfiles(shell.environment);
  const resolved = profiles.has(profile)
    ? await resolveTarget(flags, shell.environment)
    : await resolveNewTarget(flags, shell);
  const { control, rootCertificates, proxy } = resolved;
  const target = await openTarget(resolved, shell.environment, warnOn(shell));
  await requireSetupIs(flags.setup === true, shell, target);
  const code = flags.setup ? await askSetupCode(shell, target, flags) : '';
  const user = flags.user ?? (await ask(shell, 'user', 'give --user NAME'));
  const passwordFile = flags.passwordFile ?? nonEmpty(shell.environment['ROLLCALL_PASSWORD_FILE']);
  const password = flags.setup
    ? await askNewPassword(shell, passwordFile)
    : await askOwnPassword(shell, passwordFile);
  if (flags.setup) {
    const body = { code, username: user, password };
    await askHttp(target, { method: 'POST', path: '/auth/setup', body });
  }
  const answer = await enter(shell, target, { user, password }, flags);
  // One that cannot be read is replaced like any other.
  const before = await findLogin(shell.environment, profile).catch(() => undefined);
  await saveLogin(shell.environment, profile, loginFrom(answer, control, user, Date.now()));
  await writeProfiles(
    shell.environment,
    new Map(profiles).set(profile, {
      ...withoutProxy(profiles.get(profile)),
      control,
      rootCertificates,
      ...proxy,
    }),
  );
  // Each link is believed by its own roots.
  const oldRoots = before?.control === control ? rootCertificates : profiles.get(profile)?.rootCertificates;
  if (before && oldRoots !== undefined)
    await endReplaced(before, { ...resolved, rootCertificates: oldRoots }, shell.environment);
  if (flags.json) printJson(shell, { user, control, profile });
  else printDone(shell, `Logged in to ${control} as ${user}${flags.setup ? ', the first admin' : ''}.`);
  return exitCodes.done;
}

/** How long a link that may be gone can hold up a login elsewhere, ms. */
const farewellMs = 3_000;

/** The session that a new login has taken the place of. Where its link cannot be asked it ends in time by itself. */
async function endReplaced(
  { control, refreshToken }: Login,
  way: ResolvedTarget,
  environment: Environment,
): Promise<void> {
  try {
    const target = await openTarget({ ...way, control }, environment);
    await endSession(target, refreshToken, farewellMs);
  } catch {
    // The new login is there, and that was what was asked for.
  }
}

async function endSession(target: HttpTarget, token: string, withinMs?: number): Promise<void> {
  const question = { method: 'POST', path: '/auth/revoke', form: { token } } as const;
  await askHttp(target, { ...question, ...(withinMs !== undefined && { withinMs }) });
}

/** A profile that is not there yet is one to make, not a mistake. */
function resolveNewTarget({ profile: _, ...flags }: LoginFlags, { environment }: Shell) {
  return resolveTarget(flags, { ...environment, ROLLCALL_PROFILE: undefined });
}

/** Before anything is typed: whether the first admin is still to be made decides which login there can be. */
async function requireSetupIs(wanted: boolean, shell: Shell, target: HttpTarget): Promise<void> {
  const progress = startProgress(shell, `waiting for ${target.addressText}`);
  const question = { method: 'GET', path: '/auth/setup' } as const;
  const answer = await askHttp<{ open: unknown }>(target, question)
    .catch(unlessUnknown)
    .finally(() => progress.clear());
  if (!answer) return;
  const isOpen = answer.open === true;
  if (wanted === isOpen) return;
  throw isOpen
    ? new RollcallError('LOGIN_REFUSED', 'there is no admin yet on this link', {
        hint: "make the first one by the setup code in the link's data folder: rollcall login --setup",
      })
    : new RollcallError('LOGIN_REFUSED', 'there is an admin already', { hint: 'log in without --setup' });
}

/** A link of an earlier version has no such route, and judges everything at the end. */
function unlessUnknown(error: unknown): undefined {
  if (isRollcallError(error, 'NOT_FOUND') || isRollcallError(error, 'REQUEST_INVALID')) return;
  throw error;
}

/** Asks again for a code that was mistyped, before a password is asked for. */
async function askSetupCode(
  shell: Shell,
  target: HttpTarget,
  { setupCodeFile }: LoginFlags,
): Promise<string> {
  for (let tries = 1; ; tries += 1) {
    const code = await askSecret(shell, 'setup code', setupCodeFile, 'give --setup-code-file FILE');
    try {
      await askHttp(target, { method: 'POST', path: '/auth/setup/code', body: { code } }).catch(
        unlessUnknown,
      );
      return code;
    } catch (error) {
      const isMistyped = isRollcallError(error, 'LOGIN_REFUSED') && setupCodeFile === undefined;
      if (!isMistyped || tries === maxTries) throw error;
      printHint(shell, `${error.message}; ${error.hint ?? 'try again'}`);
    }
  }
}

/** Asks for the code of the second factor only when the link wants one. */
async function enter(
  shell: Shell,
  target: HttpTarget,
  { user, password }: Entered,
  { tenant, code }: LoginFlags,
): Promise<TokenAnswer> {
  const tryWith = (otp: string | undefined): Promise<TokenAnswer> =>
    askHttp<TokenAnswer>(target, {
      method: 'POST',
      path: '/auth/token',
      form: {
        grant_type: 'password',
        client_id: commandProgram,
        username: user,
        password,
        tenant,
        otp_code: otp,
      },
    });
  const progress = startProgress(shell, `waiting for ${target.addressText}`);
  try {
    return await tryWith(code);
  } catch (error) {
    if (!isRollcallError(error, 'OTP_REQUIRED')) throw error;
  } finally {
    progress.clear();
  }
  return tryWith(await ask(shell, 'code of the second factor', 'give --code CODE'));
}

/** Ends the session at the link; what is kept here goes even when the link cannot be asked. */
export async function logout(
  shell: Shell,
  flags: ControlFlags & { readonly json?: boolean },
): Promise<number> {
  const profile = parseProfileName(await loginProfile(flags, shell.environment));
  const kept = await findLogin(shell.environment, profile);
  if (!kept) {
    if (flags.json) printJson(shell, { user: null, profile });
    printHint(shell, 'nobody was logged in');
    return exitCodes.done;
  }
  await removeLogin(shell.environment, profile);
  const isSaved = (await readProfiles(shell.environment)).has(profile);
  const resolved = await resolveTarget(isSaved ? { ...flags, profile } : flags, shell.environment);
  // Its tokens are sent to their own link only, also when another link is named.
  const target = await openTarget({ ...resolved, control: kept.control }, shell.environment, warnOn(shell));
  await endSession(target, kept.refreshToken);
  if (flags.json) printJson(shell, { user: kept.user, control: kept.control, profile });
  else printDone(shell, `Logged out; the login of ${kept.user} has ended.`);
  return exitCodes.done;
}

export async function whoami(
  shell: Shell,
  flags: ControlFlags & { readonly json?: boolean },
): Promise<number> {
  const { target, tokens } = await openControlSettings(flags, shell.environment, warnOn(shell));
  const me = await askMe(createAsk(target, tokens));
  if (flags.json) {
    printJson(shell, { ...me, expiresAt: momentOrNull(me.expiresAt) });
    return exitCodes.done;
  }
  const facts: Fact[] = [
    ['Name', me.name],
    ['Kind', me.kind],
    ['Tenant', me.tenant],
    ['Roles', me.roles.join(', ')],
    ['May', me.permissions.join(', ')],
    ['Token ends', formatMoment(me.expiresAt)],
  ];
  printFacts(shell, facts, 0);
  return exitCodes.done;
}
