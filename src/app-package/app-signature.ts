/**
 * The author of an app, shown by an ECDSA P-256 signature over its name, version and digest. A node runs only apps of the keys it was
 * told to trust, so what counts here is the app key, never the link an app came over.
 */
import { RollcallError } from '../base/errors.js';
import { encodeFields } from '../identity/fields.js';
import type { PrivateKey } from '../identity/private-key.js';
import type { PublicKey } from '../identity/public-key.js';
import { verifySignature } from '../identity/signature.js';

export interface SignedApp {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of the list of files, hex. */
  readonly digest: string;
}

/** Keeps a signature over an app from passing for any other of the same key. */
export const appLabel = 'rollcall app v1';

function encodeApp({ name, version, digest }: SignedApp): Buffer {
  if (!/^[0-9a-f]{64}$/.test(digest))
    throw new RollcallError('REQUEST_INVALID', 'the digest of an app is SHA-256 in hex');
  return encodeFields([appLabel, name, version, Buffer.from(digest, 'hex')]);
}

/** ECDSA in DER, deterministic. KEY_UNSUPPORTED for a key on another curve. */
export function signApp(key: PrivateKey, app: SignedApp): Buffer {
  if (key.publicKey.curve !== 'P-256') {
    throw new RollcallError('KEY_UNSUPPORTED', 'apps are signed by a key on P-256', {
      hint: 'make one with rollcall app keygen',
    });
  }
  return key.sign(encodeApp(app));
}

export async function isSignedBy(key: PublicKey, app: SignedApp, signature: Uint8Array): Promise<boolean> {
  return key.curve === 'P-256' && verifySignature(key, encodeApp(app), signature);
}
