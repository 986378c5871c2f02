/** The TLS settings of the link for every certificate. */
import { constants } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';

/** TLS 1.3 and no session tickets: a resumed session carries no certificate. */
export function secure(context: SecureContextOptions): SecureContextOptions {
  return {
    ...context,
    minVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET,
    ecdhCurve: 'X25519:P-256:P-384',
    sigalgs:
      'ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ed25519:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512',
  };
}
