#!/usr/bin/env bash
# OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, crypto/x509 of Go 1.26, Java 17, rustls-webpki 0.103.17, cryptography 50.0.2
#
# Guess: a root with pathlen:0 can change its key the way RFC 5280 §6.1.4 (l) foresees: the old key signs a certificate of the same name for the new one,
#        and since a self-issued certificate does not count, the path old root - new key - leaf is within pathlen:0 everywhere.
# Seen:  OpenSSL, Java and webpki accept that path; Go ("too many intermediates for path length constraint"), GnuTLS and cryptography refuse it. With
#        pathlen:1 in the old root all six accept.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
install_verifiers
leaf="$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:node.example"
{
  for length in 0 1; do
    certificate old$length "/CN=Root $length" "${usual_ca/CA:TRUE/CA:TRUE,pathlen:$length}"
    certificate new$length "/CN=Root $length" "${usual_ca/CA:TRUE/CA:TRUE,pathlen:0}\nauthorityKeyIdentifier=keyid" old$length
    certificate leaf$length /CN=leaf "$leaf" new$length
    echo "pathlen:$length in the old root"
    verify_all server old$length leaf$length new$length
  done
} >seen
expect 'a key roll-over by a self-issued certificate under pathlen:0 is refused by Go, GnuTLS and cryptography' <<'END'
pathlen:0 in the old root
  OpenSSL: accepts
  GnuTLS: refuses, The certificate chain violates the signer's constraints
  Go: refuses, x509: too many intermediates for path length constraint
  Java: accepts
  webpki: accepts
  cryptography: refuses, candidates exhausted: signature does not match
pathlen:1 in the old root
  OpenSSL: accepts
  GnuTLS: accepts
  Go: accepts
  Java: accepts
  webpki: accepts
  cryptography: accepts
END
