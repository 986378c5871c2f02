/**
 * Passwords, kept as scrypt (RFC 7914) with the parameters beside each hash, so that they can grow: a hash made with
 * older ones is made anew at the next login. Hashing takes 32 MiB and a good part of a second on purpose; only a few
 * run at a time, so that a flood of logins costs waiting, not memory.
 */
import { scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto';
import { RollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';

/** log2 of N, r, p. One of the settings of the OWASP password storage cheat sheet. */
export const currentCost = { logN: 15, r: 8, p: 3 } as const;

interface Cost {
  readonly logN: number;
  readonly r: number;
  readonly p: number;
}

export interface Passwords {
  /** `scrypt$15$8$3$salt$hash`; PASSWORD_UNFIT when it is too short or too long, or cannot be typed. */
  hash(password: string): Promise<string>;
  /** Works as long for no hash as for one, so that the time does not tell which names exist. */
  matches(password: string, hash: string | undefined): Promise<boolean>;
  /** Made with other parameters than new ones are. */
  isDated(hash: string): boolean;
}

const saltBytes = 16;
const hashBytes = 32;
/** Hashes at a time, and waiting; beyond it a login is told to come back. */
const atOnce = 2;
const mostWaiting = 64;
/** NIST SP 800-63B-4 §3.1.1: at least 15 when it is the only factor; the upper bound keeps the work bounded. */
const shortest = 15;
const longest = 256;

export function createPasswords(random: Random, cost: Cost = currentCost): Passwords {
  const inTurn = createGate(atOnce, mostWaiting);
  const nobody = spell(cost, random(saltBytes), random(hashBytes));

  return {
    async hash(password) {
      requireFit(password);
      const salt = random(saltBytes);
      return inTurn(async () => spell(cost, salt, await derive(password, salt, cost)));
    },
    async matches(password, hash) {
      const { cost: made, salt, wanted } = read(hash ?? nobody);
      const found = await inTurn(() => derive(password.slice(0, longest), salt, made));
      const isRight = timingSafeEqual(found, wanted) && hash !== undefined;
      return isRight && password.length <= longest && isPlain(password);
    },
    isDated(hash) {
      const { cost: made } = read(hash);
      return made.logN !== cost.logN || made.r !== cost.r || made.p !== cost.p;
    },
  };
}

function requireFit(password: string): void {
  // As it is hashed: a letter and its accent typed apart are one character.
  const length = Array.from(password.normalize('NFC')).length;
  if (isPlain(password) && length >= shortest && password.length <= longest) return;
  throw new RollcallError(
    'PASSWORD_UNFIT',
    `a password wants ${shortest} to ${longest} characters that can be typed`,
    {
      hint: 'a few words in a row are easy to remember and hard to guess',
    },
  );
}

/** No control characters (RFC 8265 §4.2.1); to scrypt, whose HMAC pads its key with zeros, a last NUL is nothing. */
function isPlain(password: string): boolean {
  return !/\p{Cc}/u.test(password);
}

/** The same password typed on different keyboards is the same text (RFC 8265 §4.2). */
function derive(password: string, salt: Buffer, { logN, r, p }: Cost): Promise<Buffer> {
  const n = 2 ** logN;
  const options: ScryptOptions = { N: n, r, p, maxmem: 256 * n * r };
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFC'), salt, hashBytes, options, (error, hash) => {
      if (error) reject(error);
      else resolve(hash);
    });
  });
}

function spell({ logN, r, p }: Cost, salt: Buffer, hash: Buffer): string {
  return ['scrypt', logN, r, p, salt.toString('base64url'), hash.toString('base64url')].join('$');
}

function read(text: string): { cost: Cost; salt: Buffer; wanted: Buffer } {
  const [scheme, logN, r, p, salt = '', hash = ''] = text.split('$');
  const cost = { logN: Number(logN), r: Number(r), p: Number(p) };
  const wanted = Buffer.from(hash, 'base64url');
  if (scheme !== 'scrypt' || !Object.values(cost).every(Number.isInteger) || wanted.length !== hashBytes)
    throw new RollcallError('INTERNAL', 'a password hash is damaged');
  return { cost, salt: Buffer.from(salt, 'base64url'), wanted };
}

/** Lets so many run at once, so many wait, and refuses the rest. */
function createGate(most: number, waitingMost: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async work => {
    if (running >= most) {
      if (waiting.length >= waitingMost) {
        throw new RollcallError('RATE_LIMITED', 'too many logins at once', {
          hint: 'try again in a few seconds',
          retryAfterMs: 5_000,
        });
      }
      await new Promise<void>(resolve => waiting.push(resolve));
    } else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
