/**
 * What a reader of keys was asked for, carried along so that anyone who finds something else can say in one line what it
 * is and what is wanted. Nothing of a file's content ever goes into such a line.
 */
import { RollcallError } from '../base/errors.js';
import { visibleText } from '../base/text.js';

export interface KeyWish {
  /** How the sentence begins: "this key is", or a path and "holds". */
  readonly opening: string;
  /** How hints name the file in commands. */
  readonly path: string;
  /** What is wanted, after "expected". */
  readonly wanted: string;
  /** What to do when nothing better is known. */
  readonly hint: string;
}

const onOurCurves = 'on P-256 or P-384';

/** A public key that came over the wire, without a file. */
export const wireKeyWish: KeyWish = {
  opening: 'this key is',
  path: 'FILE',
  wanted: `an ECDSA public key ${onOurCurves}, as uncompressed named-curve SubjectPublicKeyInfo`,
  hint: 'make a key with: ssh-keygen -t ecdsa -b 256 -f node-key',
};

export function publicKeyWish(path?: string): KeyWish {
  return {
    opening: `${path === undefined ? 'this file' : visiblePath(path)} holds`,
    path: path === undefined ? 'FILE' : shellWord(path),
    wanted: `an ECDSA public key ${onOurCurves}`,
    hint: 'make a pair with: ssh-keygen -t ecdsa -b 256 -f node-key (the public half is node-key.pub)',
  };
}

export function privateKeyWish(path?: string): KeyWish {
  return {
    ...publicKeyWish(path),
    wanted: `an ECDSA private key ${onOurCurves}`,
    hint: 'make one with: ssh-keygen -t ecdsa -b 256 -f node-key',
  };
}

/** KEY_UNSUPPORTED: what was found ("an RSA key"), and what is wanted instead. */
export function refuseKey(wish: KeyWish, found: string, hint = wish.hint, cause?: unknown): RollcallError {
  const message = `${wish.opening} ${found}; expected ${wish.wanted}`;
  return new RollcallError('KEY_UNSUPPORTED', message, { hint, cause });
}

export function missingPassphrase(wish: KeyWish): RollcallError {
  return new RollcallError(
    'KEY_PASSPHRASE',
    `${wish.opening} an encrypted private key; expected its passphrase`,
    { hint: 'give the passphrase at a prompt, in a file or in an environment variable' },
  );
}

export function wrongPassphrase(wish: KeyWish): RollcallError {
  return new RollcallError(
    'KEY_PASSPHRASE',
    `${wish.opening} an encrypted private key, and the passphrase does not open it`,
    { hint: `try it with: ssh-keygen -y -f ${wish.path}` },
  );
}

/** All of it, however long. */
const visiblePath = (path: string): string => visibleText(path, Infinity);

function shellWord(path: string): string {
  const plain = visiblePath(path);
  return /^[\w./@%+=:,-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", `'\\''`)}'`;
}
