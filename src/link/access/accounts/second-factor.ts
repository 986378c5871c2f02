/**
 * The second factor: six digits that change every half minute (TOTP, RFC 6238: SHA-1, 30 s), and recovery codes for who
 * lost the device. Pure: time and randomness come in, and the factor as it is after use goes out, for the caller to
 * store before the login is accepted. login-throttle.ts limits the number of attempts.
 */
import { HOTP, Secret, TOTP } from 'otpauth';
import type { Random } from '../../../base/random.js';
import { hashSecret, isSameText } from '../tokens/secret-text.js';
import type { SecondFactor } from './users.js';

/** RFC 4226 §4 asks for 160 bits: the length of what SHA-1 gives. */
const secretBytes = 20;
const stepMs = 30_000;
/** Steps before and after the present one, for clocks that differ and fingers that are slow (RFC 6238 §5.2). */
const stepsAside = 1;
const recoveryCodes = 10;
/** Of 32 kinds each: 50 bits, which nobody guesses at the rate that guesses are let through. */
const recoveryCharacters = 10;
/** Crockford's base32: no i, l, o and u. */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
/** A code and some spaces are shorter. */
const maxTypedLength = 64;

/** A new secret, base32, to be shown once. */
export function newSecret(random: Random): string {
  return new Secret({ buffer: Uint8Array.from(random(secretBytes)).buffer }).base32;
}

export interface OtpauthParts {
  /** Shown beside the code: the product, or this link's name. */
  readonly issuer: string;
  /** The account of the second factor. */
  readonly name: string;
  /** Base32. */
  readonly secret: string;
}

/** The URI that an authenticator app reads from a QR code (Google's key URI format). It holds the secret. */
export function otpauthUri({ issuer, name, secret }: OtpauthParts): string {
  return new TOTP({ issuer, label: name, secret, algorithm: 'SHA1', digits: 6, period: 30 }).toString();
}

/**
 * The factor after this code was used, or undefined for a wrong one. A time code counts once: no code of its step or
 * an earlier one is taken afterwards. A recovery code is gone. `now` in ms since 1970.
 */
export function checkCode(factor: SecondFactor, code: string, now: number): SecondFactor | undefined {
  if (code.length > maxTypedLength) return undefined;
  const typed = code.replaceAll(/\s/g, '');
  return /^[0-9]{6}$/.test(typed) ? useTimeCode(factor, typed, now) : useRecoveryCode(factor, typed);
}

export interface RecoveryCodes {
  /** `xxxxx-xxxxx`, to be shown once. */
  readonly codes: readonly string[];
  /** Their hashes, which are kept. */
  readonly hashes: readonly string[];
}

export function newRecoveryCodes(random: Random): RecoveryCodes {
  const plain = Array.from({ length: recoveryCodes }, () => newRecoveryCode(random));
  return { codes: plain.map(code => `${code.slice(0, 5)}-${code.slice(5)}`), hashes: plain.map(hashSecret) };
}

function useTimeCode(factor: SecondFactor, typed: string, now: number): SecondFactor | undefined {
  const secret = Secret.fromBase32(factor.secret);
  const present = Math.floor(now / stepMs);
  // All of them are made and compared, so that the time taken tells nothing.
  const fitting = stepsAround(present).filter(step =>
    isSameText(HOTP.generate({ secret, counter: step }), typed),
  );
  const step = fitting.find(each => each > factor.lastStep);
  return step === undefined ? undefined : { ...factor, lastStep: step };
}

function stepsAround(present: number): number[] {
  const first = present - stepsAside;
  return Array.from({ length: 2 * stepsAside + 1 }, (_, index) => first + index).filter(step => step >= 0);
}

function useRecoveryCode(factor: SecondFactor, typed: string): SecondFactor | undefined {
  const found = hashSecret(readRecoveryCode(typed));
  const left = factor.recovery.filter(hash => !isSameText(hash, found));
  return left.length === factor.recovery.length ? undefined : { ...factor, recovery: left };
}

/** A byte's lower five bits, so that every character is as likely as any other. */
function newRecoveryCode(random: Random): string {
  return [...random(recoveryCharacters)].map(byte => alphabet.charAt(byte & 31)).join('');
}

/** Crockford's reading: any case, dashes left out, i and l are 1, o is 0. */
function readRecoveryCode(typed: string): string {
  return typed.toLowerCase().replaceAll('-', '').replaceAll(/[il]/g, '1').replaceAll('o', '0');
}
