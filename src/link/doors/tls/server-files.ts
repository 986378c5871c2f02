/** The files of the link's certificate, its key and the server roots: read together, told apart by a digest, taken apart. */
import { createHash, createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { RollcallError, systemErrorCode, toRollcallError, withHint } from '../../../base/errors.js';
import { fromPem } from '../../../base/pem.js';
import { readSecretFile, readSmallFile, type Warn } from '../../../base/secret-file.js';

export interface ServerFilePaths {
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly rootsFile: string;
}

export interface ServerFiles {
  /** Of what stood in the files; a file that could not be read counts by the reason. */
  readonly digest: string;
  /** The certificate of the link first. */
  readonly chain: () => readonly X509Certificate[];
  readonly anchors: () => readonly X509Certificate[];
  readonly key: () => Promise<KeyObject>;
  /** Warnings about files that are accepted, a sentence each. */
  readonly warnings: readonly string[];
}

/** Never rejects: what is wrong with a file is thrown by the part that is in it. `passphrase` is asked when the key is encrypted. */
export async function readServerFiles(
  { certificateFile, keyFile, rootsFile }: ServerFilePaths,
  passphrase?: () => Promise<string>,
): Promise<ServerFiles> {
  const warnings: string[] = [];
  const warn: Warn = (message, hint) => warnings.push(withHint({ message, hint }));
  const results = await Promise.allSettled([
    readSmallFile(certificateFile, 'server certificate'),
    readSecretFile(keyFile, 'server key', undefined, warn),
    readSmallFile(rootsFile, 'server roots'),
  ]);
  const [certificate, key, roots] = results;
  return {
    digest: digestOf(results),
    chain: () => parseCertificates(contentOf(certificate), certificateFile),
    anchors: () => parseCertificates(contentOf(roots), rootsFile),
    key: () => parseKey(contentOf(key), keyFile, passphrase),
    warnings,
  };
}

function contentOf(result: PromiseSettledResult<Buffer>): string {
  if (result.status === 'rejected') throw toRollcallError(result.reason);
  return result.value.toString('utf8');
}

function digestOf(results: readonly PromiseSettledResult<Buffer>[]): string {
  const hash = createHash('sha256');
  for (const result of results) {
    const content = result.status === 'fulfilled' ? result.value : toRollcallError(result.reason).message;
    hash.update(createHash('sha256').update(content).digest());
  }
  return hash.digest('hex');
}

function parseCertificates(text: string, path: string): X509Certificate[] {
  return fromPem(text, `certificate file ${path}`).map((der, position) => {
    try {
      return new X509Certificate(der);
    } catch (error) {
      throw new RollcallError(
        'CONFIG_INVALID',
        `${path}: certificate ${position + 1} of the file is damaged`,
        {
          hint: 'copy the file again, whole',
          cause: error,
        },
      );
    }
  });
}

/** PKCS#8, and the old way of OpenSSL (RFC 1421). */
const encrypted = /^(?:-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED)/m;

async function parseKey(
  pem: string,
  path: string,
  passphrase: (() => Promise<string>) | undefined,
): Promise<KeyObject> {
  const isEncrypted = encrypted.test(pem);
  if (isEncrypted && !passphrase) {
    throw new RollcallError('KEY_PASSPHRASE', `${path} is encrypted, and there is no passphrase for it`, {
      hint: `give it with --ssl-keyfile-passphrase-file, or write the key without one: openssl pkey -in ${path} -out FILE`,
    });
  }
  try {
    return createPrivateKey({ key: pem, ...(isEncrypted && { passphrase: await passphrase?.() }) });
  } catch (error) {
    if (error instanceof RollcallError) throw error;
    throw isEncrypted && systemErrorCode(error) !== 'ERR_OSSL_UNSUPPORTED'
      ? new RollcallError('KEY_PASSPHRASE', `the passphrase does not open ${path}`, {
          hint: `try it with: openssl pkey -in ${path} -noout`,
          cause: error,
        })
      : new RollcallError('CONFIG_INVALID', `${path} is not a private key in PEM`, { cause: error });
  }
}
