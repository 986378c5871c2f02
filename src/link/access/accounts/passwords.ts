/**
 * Passwords, kept as scrypt (RFC 7914) with the parameters beside each hash, so that they can grow: a hash made with
 * older ones is made anew at the next login. Hashing takes 32 MiB and a good part of a second on purpose; whose turn it
 * is, hash-queue.ts says, so that a flood of logins costs those who flood.
 */
import { scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto';
import { RollcallError } from '../../../base/errors.js';
import {
  isFitPassword,
  isPlainPassword,
  maxPasswordLength,
  passwordRule,
} from '../../../base/password-rule.js';
import type { Random } from '../../../base/random.js';
import { HashQueue, type HashAsker } from './hash-queue.js';

/** log2 of N, r, p. One of the settings of the OWASP password storage cheat sheet. */
export const currentCost = { logN: 15, r: 8, p: 3 } as const;

export interface PasswordCost {
  readonly logN: number;
  readonly r: number;
  readonly p: number;
}

export interface Passwords {
  /** `scrypt$15$8$3$salt$hash`; PASSWORD_UNFIT when it is too short or too long, or cannot be typed. RATE_LIMITED as below. */
  hash(password: string, asker?: HashAsker): Promise<string>;
  /**
   * Works as long for no hash as for one, so that the time does not tell which names exist. RATE_LIMITED when too many
   * wait already; the reason of the asker's signal when that fires first.
   */
  matches(password: string, hash: string | undefined, asker: HashAsker): Promise<boolean>;
  /** Made with other parameters than new ones are. */
  isDated(hash: string): boolean;
}

const saltBytes = 16;
const hashBytes = 32;
/** Work of the link itself. */
const ownWork: HashAsker = { party: 'link', isKnown: true };

export function createPasswords(random: Random, cost: PasswordCost = currentCost): Passwords {
  const queue = new HashQueue();
  const nobody = spell(cost, random(saltBytes), random(hashBytes));

  return {
    async hash(password, asker = ownWork) {
      requireFit(password);
      const salt = random(saltBytes);
      return queue.run(asker, async () => spell(cost, salt, await derive(password, salt, cost)));
    },
    async matches(password, hash, asker) {
      const { cost: made, salt, wanted } = read(hash ?? nobody);
      const found = await queue.run(asker, () => derive(password.slice(0, maxPasswordLength), salt, made));
      const isRight = timingSafeEqual(found, wanted) && hash !== undefined;
      return isRight && password.length <= maxPasswordLength && isPlainPassword(password);
    },
    isDated(hash) {
      const { cost: made } = read(hash);
      return made.logN !== cost.logN || made.r !== cost.r || made.p !== cost.p;
    },
  };
}

function requireFit(password: string): void {
  if (isFitPassword(password)) return;
  throw new RollcallError('PASSWORD_UNFIT', passwordRule, {
    hint: 'a few words in a row are easy to remember and hard to guess',
  });
}

/** The same password typed on different keyboards is the same text (RFC 8265 §4.2). */
function derive(password: string, salt: Buffer, { logN, r, p }: PasswordCost): Promise<Buffer> {
  const n = 2 ** logN;
  const options: ScryptOptions = { N: n, r, p, maxmem: 256 * n * r };
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFC'), salt, hashBytes, options, (error, hash) => {
      if (error) reject(error);
      else resolve(hash);
    });
  });
}

function spell({ logN, r, p }: PasswordCost, salt: Buffer, hash: Buffer): string {
  return ['scrypt', logN, r, p, salt.toString('base64url'), hash.toString('base64url')].join('$');
}

function read(text: string): { cost: PasswordCost; salt: Buffer; wanted: Buffer } {
  const [scheme, logN, r, p, salt = '', hash = ''] = text.split('$');
  const cost = { logN: Number(logN), r: Number(r), p: Number(p) };
  const wanted = Buffer.from(hash, 'base64url');
  if (scheme !== 'scrypt' || !Object.values(cost).every(Number.isInteger) || wanted.length !== hashBytes)
    throw new RollcallError('INTERNAL', 'a password hash is damaged');
  return { cost, salt: Buffer.from(salt, 'base64url'), wanted };
}
