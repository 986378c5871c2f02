/**
 * The way in on the first day: a code in a file of the data folder, 0600, told once, that makes the first admin. While
 * nobody has used it, it is the only thing that can; once there is a user, it is gone for good.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setupParty } from '../../../audit-log/party.js';
import { RollcallError } from '../../../base/errors.js';
import type { Random } from '../../../base/random.js';
import { readSecretFile, unlessMissing, writeWholeFile } from '../../../base/secret-file.js';
import { createKeyedQueue } from '../../../base/keyed-queue.js';
import { defaultTenant } from '../../../protocol/limits.js';
import type { Reads } from '../../../store/store.js';
import type { Passwords } from '../accounts/passwords.js';
import { actorFrom, type Origin } from '../principal.js';
import { isSameText } from '../tokens/secret-text.js';
import type { Reason, User, Users } from '../accounts/users.js';

export const setupCodeFile = 'setup-code';

export interface Setup {
  /** The file with the code; undefined once there is a user. */
  readonly path: string | undefined;
  /** The code, if this start made it; told once. */
  tell(): string | undefined;
  /** LOGIN_REFUSED for a wrong code, or when there is a user already. */
  check(code: string): Promise<void>;
  /** Makes the first admin; refuses as `check` does. */
  complete(code: string, name: string, password: string, origin: Origin): Promise<User>;
}

/** Crockford's base32: no letter that looks like a digit. */
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const groups = 5;
const groupLength = 5;

export interface SetupOptions {
  readonly folder: string;
  readonly random: Random;
  readonly users: Pick<Users, 'isEmpty' | 'create'>;
  readonly passwords: Passwords;
}

export async function openSetup({ folder, random, users, passwords }: SetupOptions): Promise<Setup> {
  const path = join(folder, setupCodeFile);
  const inTurn = createKeyedQueue();
  const isDone = async (): Promise<boolean> => !(await users.isEmpty(defaultTenant));
  let code: string | undefined;
  let untold: string | undefined;
  if (await isDone()) await rm(path, { force: true });
  else {
    code = await readCode(path);
    if (code === undefined) {
      untold = await writeCode(path, random);
      code = normal(untold);
    }
  }

  async function check(given: string): Promise<void> {
    if (code === undefined || (await isDone())) throw isThere();
    if (!isSameText(normal(given.slice(0, 100)), code)) throw refused();
  }

  return {
    check,
    get path() {
      return code === undefined ? undefined : path;
    },
    tell() {
      const told = untold;
      untold = undefined;
      return told;
    },
    complete: (given, name, password, origin) =>
      inTurn('setup', async () => {
        await check(given);
        const passwordHash = await passwords.hash(password);
        const grounds = async (reads: Reads): Promise<void> => {
          if (!(await users.isEmpty(defaultTenant, reads))) throw isThere();
        };
        const reason: Reason = { type: 'setup.completed', by: actorFrom(setupParty, origin), grounds };
        const user = await users.create(defaultTenant, { name, roles: ['admin'], passwordHash }, reason);
        code = undefined;
        // The admin is there, whatever becomes of the file: the next start removes it, too.
        await rm(path, { force: true }).catch(() => undefined);
        return user;
      }),
  };
}

async function readCode(path: string): Promise<string | undefined> {
  const bytes = await unlessMissing(readSecretFile(path, 'setup code', 4096));
  if (!bytes) return undefined;
  const text = normal(bytes.toString('latin1'));
  if (text.length === groups * groupLength) return text;
  throw new RollcallError('CONFIG_INVALID', `${path} does not hold a setup code`, {
    hint: 'remove the file; the link makes a new code at the next start',
  });
}

async function writeCode(path: string, random: Random): Promise<string> {
  const code = Array.from(random(groups * groupLength), byte => alphabet.charAt(byte % 32)).join('');
  const spelt = code.match(/.{5}/g)?.join('-') ?? code;
  await writeWholeFile(path, `${spelt}\n`);
  return spelt;
}

function normal(text: string): string {
  return text.toUpperCase().replaceAll(/[^0-9A-Z]/g, '');
}

function isThere(): RollcallError {
  return new RollcallError('LOGIN_REFUSED', 'there is an admin already', {
    hint: 'log in without --setup',
  });
}

function refused(): RollcallError {
  return new RollcallError('LOGIN_REFUSED', 'the setup code is not valid', {
    hint: `it is in the file ${setupCodeFile} of the link's data folder, until the first admin is there`,
  });
}
