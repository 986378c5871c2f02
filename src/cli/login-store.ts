/**
 * Logins kept between commands, one file a profile, 0600: the refresh token and the access token of now. An access token
 * that is about to end, or that the link refuses, is exchanged unseen. Two commands at once may exchange the same
 * refresh token: the link gives both the same successor, so neither has to wait for the other.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isRollcallError, RollcallError } from '../base/errors.js';
import { makeSecretFolder, readSecretFile, writeWholeFile } from '../base/secret-file.js';
import { askHttp } from '../control-client/control-http.js';
import type { HttpTarget } from '../control-client/http-target.js';
import type { TokenSource } from '../control-client/tokens.js';
import { configFolder, isMissing } from './profile.js';
import type { Environment } from './terminal.js';

export interface Login {
  /** The control port it is for, as text: its tokens go nowhere else. */
  readonly control: string;
  readonly user: string;
  readonly accessToken: string;
  /** Milliseconds since 1970. */
  readonly accessEndsAt: number;
  readonly refreshToken: string;
}

/** The answer of the token endpoint. */
export interface TokenAnswer {
  readonly access_token: string;
  readonly expires_in: number;
  readonly refresh_token?: string;
}

export const commandProgram = 'rollcall-cli';
/** An access token this near its end is exchanged first, ms. */
const marginMs = 30_000;

export function loginPath(environment: Environment, profile: string): string {
  return join(configFolder(environment), `login-${profile}.json`);
}

export async function findLogin(environment: Environment, profile: string): Promise<Login | undefined> {
  const path = loginPath(environment, profile);
  try {
    const login = JSON.parse((await readSecretFile(path, 'login')).toString('utf8')) as Partial<Login>;
    const texts = [login.control, login.user, login.accessToken, login.refreshToken];
    if (texts.every(each => typeof each === 'string') && typeof login.accessEndsAt === 'number')
      return login as Login;
  } catch (error) {
    if (isRollcallError(error, 'FILE_UNREADABLE') && isMissing(error.cause)) return undefined;
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new RollcallError('CONFIG_INVALID', `${path} holds no login`, {
    hint: 'log in again: rollcall login',
  });
}

export async function saveLogin(environment: Environment, profile: string, login: Login): Promise<void> {
  await makeSecretFolder(configFolder(environment));
  const path = loginPath(environment, profile);
  await writeWholeFile(path, `${JSON.stringify(login, undefined, 2)}\n`, { overwrite: true });
}

export async function removeLogin(environment: Environment, profile: string): Promise<void> {
  await rm(loginPath(environment, profile), { force: true });
}

export function loginFrom(answer: TokenAnswer, control: string, user: string, now: number): Login {
  return {
    control,
    user,
    accessToken: answer.access_token,
    accessEndsAt: now + answer.expires_in * 1000,
    refreshToken: answer.refresh_token ?? '',
  };
}

/**
 * The access token of a login, exchanged for a new one where its end is near, and where the link has refused it: the
 * keys it was signed with may be gone while the session goes on.
 */
export async function openLogin(
  environment: Environment,
  profile: string,
  login: Login,
  target: HttpTarget,
): Promise<TokenSource['get']> {
  const isFresh = login.accessEndsAt - Date.now() > marginMs;
  let { accessToken } = isFresh ? login : await exchange(environment, profile, login, target);
  return async refused => {
    if (refused === accessToken)
      accessToken = await replaceToken(environment, profile, { ...login, accessToken }, target);
    return accessToken;
  };
}

async function exchange(
  environment: Environment,
  profile: string,
  login: Login,
  target: HttpTarget,
): Promise<Login> {
  const now = Date.now();
  const answer = await askHttp<TokenAnswer>(target, {
    method: 'POST',
    path: '/auth/token',
    form: { grant_type: 'refresh_token', client_id: commandProgram, refresh_token: login.refreshToken },
  });
  const renewed = loginFrom(answer, login.control, login.user, now);
  await saveLogin(environment, profile, renewed);
  return renewed;
}

/** Another token than the one that was refused, or that one where the session has ended too. */
async function replaceToken(
  environment: Environment,
  profile: string,
  refused: Login,
  target: HttpTarget,
): Promise<string> {
  const login = await findLogin(environment, profile);
  // Meanwhile somebody may have logged out, or in somewhere else: that is none of this link's business.
  if (login?.control !== refused.control || login.user !== refused.user) return refused.accessToken;
  // Or another command was faster.
  if (login.accessToken !== refused.accessToken) return login.accessToken;
  try {
    return (await exchange(environment, profile, login, target)).accessToken;
  } catch (error) {
    if (isRollcallError(error, 'TOKEN_REFUSED') || isRollcallError(error, 'LOGIN_REFUSED'))
      return refused.accessToken;
    throw error;
  }
}
