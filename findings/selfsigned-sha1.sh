#!/usr/bin/env bash
# selfsigned 5.5.0 (npm); OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, crypto/x509 of Go 1.26, Java 17, rustls-webpki 0.103.17, cryptography 50.0.2
#
# Guess: a package of 2025 that makes certificates for tests and development signs with SHA-256 by default, and clients that trust the certificate take it.
# Seen:  without the option `algorithm` it signs with SHA-1. OpenSSL (and so Node and curl), Go and Java take that certificate as a root all the same; webpki, and so
#        rustls, refuses it: UnsupportedSignatureAlgorithm. With algorithm 'sha256' webpki accepts. GnuTLS and cryptography refuse both, for other reasons: a
#        leaf is no authority, and it has no authority key identifier.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
npm_install selfsigned@5.5.0
install_verifiers
cat >make.cjs <<'END'
const selfsigned = require('selfsigned');
const { writeFileSync } = require('node:fs');
const name = [{ name: 'commonName', value: 'node.example' }];
(async () => {
  writeFileSync('default.pem', (await selfsigned.generate(name)).cert);
  writeFileSync('sha256.pem', (await selfsigned.generate(name, { algorithm: 'sha256' })).cert);
})();
END
node make.cjs
{
  for kind in default sha256; do
    echo "$kind:$(openssl x509 -in $kind.pem -noout -text | grep -m1 'Signature Algorithm' | cut -d: -f2)"
    verify_all server $kind $kind
  done
} >seen
expect 'selfsigned signs with SHA-1 by default, which OpenSSL, Go and Java take and webpki refuses' <<'END'
default: sha1WithRSAEncryption
  OpenSSL: accepts
  GnuTLS: refuses, The certificate issuer is not a CA. The certificate chain violates the signer's constraints
  Go: accepts
  Java: accepts
  webpki: refuses, UnsupportedSignatureAlgorithmContext
  cryptography: refuses, invalid extension: 2.5.29.35: Certificate is missing required extension
sha256: sha256WithRSAEncryption
  OpenSSL: accepts
  GnuTLS: refuses, The certificate issuer is not a CA. The certificate chain violates the signer's constraints
  Go: accepts
  Java: accepts
  webpki: accepts
  cryptography: refuses, invalid extension: 2.5.29.35: Certificate is missing required extension
END
