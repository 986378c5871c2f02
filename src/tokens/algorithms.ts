/**
 * The signature algorithms of tokens (RFC 7518 §3.1). Any other, `none` above all, is neither accepted nor produced.
 */

export const tokenAlgorithms = ['ES256', 'RS256', 'HS256'] as const;
export type TokenAlgorithm = (typeof tokenAlgorithms)[number];

export function isTokenAlgorithm(value: unknown): value is TokenAlgorithm {
  return (tokenAlgorithms as readonly unknown[]).includes(value);
}

/** RFC 7518 §3.2: a secret is at least as long as the hash, bytes. */
export const minSecretBytes = 32;
/** RFC 7518 §3.3, bits. */
export const minRsaBits = 2048;
/** A larger modulus only costs verifiers, bits. */
export const maxRsaBits = 8192;
