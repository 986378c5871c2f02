/** The signature algorithms a token may have (RFC 7518 §3.1). Not in the list: not taken, not made, `none` least of all. */

export const tokenAlgorithms = ['ES256', 'RS256', 'HS256'] as const;
export type TokenAlgorithm = (typeof tokenAlgorithms)[number];

export function isTokenAlgorithm(value: unknown): value is TokenAlgorithm {
  return (tokenAlgorithms as readonly unknown[]).includes(value);
}

/** RFC 7518 §3.2: a secret is at least as long as the hash, bytes. */
export const minSecretBytes = 32;
/** RFC 7518 §3.3, bits. */
export const minRsaBits = 2048;
/** A larger modulus only costs anyone who verifies, bits. */
export const maxRsaBits = 8192;
