/**
 * The two curves of node keys with all their constants: prefixes of encoded keys, names in each format, and hashes. A
 * third curve would be one more entry here.
 */

export type Curve = 'P-256' | 'P-384';

export interface CurveFacts {
  /** Bytes of a coordinate and of a private scalar. */
  readonly fieldBytes: number;
  /** Object identifier of the named curve (RFC 5480 §2.1.1.1). */
  readonly oid: string;
  /** Prefix of a canonical SubjectPublicKeyInfo, with the 0x04 of the uncompressed point; x and y follow. */
  readonly spkiPrefix: Buffer;
  /** The curve's name in SSH blobs (RFC 5656 §10.1); the key type is `ecdsa-sha2-` and this. */
  readonly sshName: string;
  /** The hash of signatures by keys on this curve, as node:crypto names it. */
  readonly hash: 'sha256' | 'sha384';
}

export const curves: Readonly<Record<Curve, CurveFacts>> = {
  'P-256': {
    fieldBytes: 32,
    oid: '1.2.840.10045.3.1.7',
    spkiPrefix: Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'),
    sshName: 'nistp256',
    hash: 'sha256',
  },
  'P-384': {
    fieldBytes: 48,
    oid: '1.3.132.0.34',
    spkiPrefix: Buffer.from('3076301006072a8648ce3d020106052b8104002203620004', 'hex'),
    sshName: 'nistp384',
    hash: 'sha384',
  },
};

export const curveNames: readonly Curve[] = ['P-256', 'P-384'];

export function findCurveByOid(oid: string): Curve | undefined {
  return curveNames.find(curve => curves[curve].oid === oid);
}

export function findCurveBySshType(type: string): Curve | undefined {
  return curveNames.find(curve => `ecdsa-sha2-${curves[curve].sshName}` === type);
}
