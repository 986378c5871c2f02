/**
 * The channel binding of a proof to its TLS connection. The exporter binding is a secret of the connection that only
 * its two ends know (RFC 9266); the end-point binding, a hash of the server's certificate, is for nodes whose TLS
 * library has no exporter (RFC 5929 §4).
 */
import { createHash } from 'node:crypto';
import { RollcallError } from '../base/errors.js';
import { contextTag, oidOf, readDer, sequenceOf, expectTag, type DerElement } from './der.js';

export const exporterBinding = 'tls-exporter';
export const endPointBindingType = 'tls-server-end-point';

export type BindingType = typeof exporterBinding | typeof endPointBindingType;

/** RFC 9266 §2: this label, a context of no bytes, 32 bytes. */
export const exporterLabel = 'EXPORTER-Channel-Binding';
export const exporterBytes = 32;

// RFC 5929 §4.1: the hash of the certificate's signature algorithm, SHA-256 where that is MD5 or SHA-1.
const signatureHashes: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.4': 'sha256', // md5WithRSAEncryption
  '1.2.840.113549.1.1.5': 'sha256', // sha1WithRSAEncryption
  '1.2.840.113549.1.1.14': 'sha224',
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
  '1.2.840.10040.4.3': 'sha256', // dsa-with-SHA1
  '2.16.840.1.101.3.4.3.1': 'sha224',
  '2.16.840.1.101.3.4.3.2': 'sha256',
  '1.2.840.10045.4.1': 'sha256', // ecdsa-with-SHA1
  '1.2.840.10045.4.3.1': 'sha224',
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
};

const pss = '1.2.840.113549.1.1.10';

const pssHashes: Readonly<Record<string, string>> = {
  '1.3.14.3.2.26': 'sha256', // SHA-1
  '2.16.840.1.101.3.4.2.4': 'sha224',
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
};

/**
 * The `tls-server-end-point` binding of a server certificate (DER). BINDING_REFUSED when its signature algorithm has
 * no binding: RFC 5929 leaves algorithms without exactly one hash (Ed25519) undefined.
 */
export function endPointBinding(serverCertificateDer: Uint8Array): Buffer {
  return createHash(hashOfSignature(serverCertificateDer)).update(serverCertificateDer).digest();
}

function hashOfSignature(certificateDer: Uint8Array): string {
  const hash = findHash(certificateDer);
  if (hash !== undefined) return hash;
  throw new RollcallError(
    'BINDING_REFUSED',
    "the server certificate's signature algorithm has no end-point binding",
    { hint: 'use a server certificate signed with ECDSA or RSA' },
  );
}

function findHash(certificateDer: Uint8Array): string | undefined {
  try {
    const [, algorithm] = sequenceOf(readDer(certificateDer));
    const [type, parameters] = sequenceOf(algorithm);
    const oid = oidOf(type);
    return oid === pss ? findPssHash(parameters) : signatureHashes[oid];
  } catch (error) {
    throw new RollcallError('BINDING_REFUSED', 'the server certificate cannot be read', { cause: error });
  }
}

/** RFC 4055 §3.1: hash and mask hash, both SHA-1 by default; the binding is defined only when they are the same. */
function findPssHash(parameters: DerElement | undefined): string | undefined {
  const fields = sequenceOf(parameters);
  const hash = pssField(fields, 0);
  const mask = pssField(fields, 1);
  const sha1 = '1.3.14.3.2.26';
  const hashOid = hash ? oidOf(sequenceOf(hash)[0]) : sha1;
  const maskOid = mask ? oidOf(sequenceOf(sequenceOf(mask)[1])[0]) : sha1;
  return hashOid === maskOid ? pssHashes[hashOid] : undefined;
}

function pssField(fields: readonly DerElement[], number: number): DerElement | undefined {
  const field = fields.find(each => each.tag === contextTag(number));
  return field && readDer(expectTag(field, contextTag(number)).content);
}
