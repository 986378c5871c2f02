/**
 * What the link shows of itself: its certificate and key, and the server roots it hands out so that nodes can
 * recognise it. Read whole and checked before use, so that a bad file never replaces a good one.
 */
import { createHash, createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { RollcallError, toRollcallError } from '../../../base/errors.js';
import { fromPem } from '../../../base/pem.js';
import { readSecretFile, readSmallFile } from '../../../base/secret-file.js';

export interface ServerIdentityFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly rootsFile: string;
}

export interface ServerIdentity {
  /** PEM, for the TLS context. */
  readonly certificate: string;
  readonly key: string;
  /** DER, for the trust bundle. */
  readonly roots: readonly Buffer[];
  /** SPKI DER of every key above: none of them is a node's. */
  readonly publicKeys: readonly Buffer[];
  /** SHA-256 of the DER of the certificate, hex. */
  readonly fingerprint: string;
  /** ms since 1970. */
  readonly expiresAt: number;
}

export async function loadServerIdentity(files: ServerIdentityFiles, now: number): Promise<ServerIdentity> {
  const [certificate, key, rootsText] = await readAll([
    readSmallFile(files.certificateFile, 'server certificate'),
    readSecretFile(files.keyFile, 'server key'),
    readSmallFile(files.rootsFile, 'server roots'),
  ]);
  const roots = fromPem(rootsText, files.rootsFile);
  const chain = fromPem(certificate, files.certificateFile).map(der => new X509Certificate(der));
  const anchors = roots.map(der => new X509Certificate(der));
  const [leaf] = chain;
  if (!leaf) throw new RollcallError('CONFIG_INVALID', `${files.certificateFile} holds no certificate`);
  if (!leaf.checkPrivateKey(readKey(key, files.keyFile))) {
    throw new RollcallError('CONFIG_INVALID', `${files.keyFile} is not the key of ${files.certificateFile}`);
  }
  const expiresAt = Date.parse(leaf.validTo);
  if (expiresAt <= now) {
    throw new RollcallError('CONFIG_INVALID', `${files.certificateFile} expired on ${leaf.validTo}`, {
      hint: 'get a new one; for development: rollcall certs --force',
    });
  }
  if (!leadsTo(leaf, chain.slice(1), anchors)) {
    throw new RollcallError(
      'CONFIG_INVALID',
      `${files.certificateFile} was not issued by a root in ${files.rootsFile}`,
      {
        hint: 'nodes that trust these roots could not recognise the link; give the CA that issued the certificate',
      },
    );
  }
  return {
    certificate,
    key,
    roots,
    publicKeys: [leaf, ...anchors].map(({ publicKey }) => publicKey.export({ type: 'spki', format: 'der' })),
    fingerprint: createHash('sha256').update(leaf.raw).digest('hex'),
    expiresAt,
  };
}

/** The texts of all three, or every problem at once. */
async function readAll<T extends readonly Promise<Buffer>[]>(
  reading: readonly [...T],
): Promise<{ [K in keyof T]: string }> {
  const results = await Promise.allSettled(reading);
  const failures = results.flatMap(each =>
    each.status === 'rejected' ? [toRollcallError(each.reason)] : [],
  );
  const [first] = failures;
  if (first) {
    const { code, hint } = first;
    throw new RollcallError(code, failures.map(({ message }) => message).join('\n'), {
      hint,
      cause: first.cause,
    });
  }
  return results.map(each => (each.status === 'fulfilled' ? each.value.toString('utf8') : '')) as {
    [K in keyof T]: string;
  };
}

function readKey(pem: string, path: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new RollcallError('CONFIG_INVALID', `${path} is not an unencrypted private key in PEM`, {
      cause: error,
    });
  }
}

/** True when issuers lead from the certificate to an anchor, through the intermediates given. */
function leadsTo(
  certificate: X509Certificate,
  intermediates: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
): boolean {
  const isIssuer = (issuer: X509Certificate): boolean =>
    certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
  if (anchors.some(anchor => anchor.raw.equals(certificate.raw) || isIssuer(anchor))) return true;
  const next = intermediates.find(isIssuer);
  return (
    next !== undefined &&
    leadsTo(
      next,
      intermediates.filter(each => each !== next),
      anchors,
    )
  );
}
