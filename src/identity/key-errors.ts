/**
 * The key that a reader expects, passed along so that a refusal can name both the found and the expected key in one
 * line. Contents of a file are never part of such a line.
 */
import { RollcallError } from '../base/errors.js';
import { visibleText } from '../base/text.js';

export interface ExpectedKey {
  /** How the sentence begins: "this key is", or a path and "holds". */
  readonly opening: string;
  /** How hints name the file in commands. */
  readonly path: string;
  /** The expected key, after the word "expected". */
  readonly description: string;
  /** The hint when no better one is known. */
  readonly hint: string;
}

const onOurCurves = 'on P-256 or P-384';

/** A public key that came over the wire, without a file. */
export const expectedWireKey: ExpectedKey = {
  opening: 'this key is',
  path: 'FILE',
  description: `an ECDSA public key ${onOurCurves}, as uncompressed named-curve SubjectPublicKeyInfo`,
  hint: 'make a key with: ssh-keygen -t ecdsa -b 256 -f node-key',
};

export function expectedPublicKey(path?: string): ExpectedKey {
  return {
    opening: `${path === undefined ? 'this file' : visiblePath(path)} holds`,
    path: path === undefined ? 'FILE' : shellWord(path),
    description: `an ECDSA public key ${onOurCurves}`,
    hint: 'make a pair with: ssh-keygen -t ecdsa -b 256 -f node-key (the public half is node-key.pub)',
  };
}

export function expectedPrivateKey(path?: string): ExpectedKey {
  return {
    ...expectedPublicKey(path),
    description: `an ECDSA private key ${onOurCurves}`,
    hint: 'make one with: ssh-keygen -t ecdsa -b 256 -f node-key',
  };
}

/** KEY_UNSUPPORTED with the found key ("an RSA key") and the expected key. */
export function refuseKey(
  expected: ExpectedKey,
  found: string,
  hint = expected.hint,
  cause?: unknown,
): RollcallError {
  const message = `${expected.opening} ${found}; expected ${expected.description}`;
  return new RollcallError('KEY_UNSUPPORTED', message, { hint, cause });
}

export function missingPassphrase(expected: ExpectedKey): RollcallError {
  return new RollcallError(
    'KEY_PASSPHRASE',
    `${expected.opening} an encrypted private key; expected its passphrase`,
    { hint: 'give the passphrase at a prompt, in a file or in an environment variable' },
  );
}

export function wrongPassphrase(expected: ExpectedKey): RollcallError {
  return new RollcallError(
    'KEY_PASSPHRASE',
    `${expected.opening} an encrypted private key, and the passphrase does not open it`,
    { hint: `try it with: ssh-keygen -y -f ${expected.path}` },
  );
}

/** The whole text, of any length. */
const visiblePath = (path: string): string => visibleText(path, Infinity);

function shellWord(path: string): string {
  const plain = visiblePath(path);
  return /^[\w./@%+=:,-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", `'\\''`)}'`;
}
