/** The flags that say what a service may do and how it proves itself, and the files they name. */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { RollcallError } from '../../base/errors.js';
import { fromPem } from '../../base/pem.js';
import { readSmallFile } from '../../base/secret-file.js';
import { maxKeyFileBytes, readPublicKey } from '../../identity/key-file.js';
import { toSpkiPem } from '../../identity/private-key.js';
import type { ServiceSettings } from '../../control-client/answers.js';
import { thumbprintOf } from '../../tokens/thumbprint.js';
import { parseDuration, parseEnabled, parseList, type EnableFlags } from './arguments.js';

export interface ServiceFlags extends EnableFlags {
  readonly role?: readonly string[];
  readonly audience?: readonly string[];
  readonly scope?: readonly string[];
  readonly address?: readonly string[];
  readonly tokenLifetime?: string;
  readonly publicKey?: readonly string[];
  readonly certificate?: readonly string[];
}

/** Only what was said. Every file is read before anything is asked. */
export async function readServiceFlags(flags: ServiceFlags): Promise<ServiceSettings> {
  const { role, audience, scope, address, tokenLifetime, publicKey, certificate } = flags;
  return {
    ...parseEnabled(flags),
    ...(role && { roles: parseList(role) }),
    ...(audience && { audiences: parseList(audience) }),
    ...(scope && { scopes: parseList(scope) }),
    ...(address && { addresses: parseList(address) }),
    ...(tokenLifetime !== undefined && { tokenLifetimeMs: parseDuration('--token-lifetime', tokenLifetime) }),
    ...(publicKey && { publicKeys: await Promise.all(parseList(publicKey).map(readKeyPem)) }),
    ...(certificate && { certificates: await Promise.all(parseList(certificate).map(readThumbprint)) }),
  };
}

const spkiPem = /^-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----$/;

/** SPKI in PEM, of any algorithm the link takes assertions with; an OpenSSH line is turned into it. */
async function readKeyPem(path: string): Promise<string> {
  const bytes = await readSmallFile(path, 'public key', maxKeyFileBytes);
  const text = bytes.toString('latin1').trim();
  // The reader of node keys reports every other form, with a hint.
  if (!spkiPem.test(text)) return toSpkiPem(readPublicKey(bytes, path));
  try {
    return createPublicKey(text).export({ type: 'spki', format: 'pem' }).toString();
  } catch (error) {
    throw new RollcallError('KEY_UNSUPPORTED', `the public key ${path} is damaged`, {
      hint: 'copy the file again, whole',
      cause: error,
    });
  }
}

/** `x5t#S256` (RFC 8705 §3.1) of the first certificate in the file, the one that the service shows. */
async function readThumbprint(path: string): Promise<string> {
  const text = (await readSmallFile(path, 'certificate')).toString('latin1');
  const [der] = fromPem(text, `certificate ${path}`);
  try {
    return thumbprintOf(new X509Certificate(der).raw);
  } catch (error) {
    throw new RollcallError('CONFIG_INVALID', `the certificate ${path} is damaged`, {
      hint: 'copy the file again, whole',
      cause: error,
    });
  }
}
