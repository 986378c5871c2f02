/** Which passwords are taken: told to people before they type one, and checked by the link. */

/** NIST SP 800-63B-4 §3.1.1: at least 15 when it is the only factor; the upper bound keeps the work bounded. */
const minLength = 15;
export const maxPasswordLength = 256;

export const passwordRule = `a password has ${minLength} to ${maxPasswordLength} characters that can be typed`;

export function isFitPassword(password: string): boolean {
  // As it is hashed: a letter and its accent typed apart are one character.
  const length = Array.from(password.normalize('NFC')).length;
  return isPlainPassword(password) && length >= minLength && password.length <= maxPasswordLength;
}

/** No control characters (RFC 8265 §4.2.1); to scrypt, whose HMAC pads its key with zeros, a last NUL is nothing. */
export function isPlainPassword(password: string): boolean {
  return !/\p{Cc}/u.test(password);
}
