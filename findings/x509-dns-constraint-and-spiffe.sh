#!/usr/bin/env bash
# OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, crypto/x509 of Go 1.26, Java 17, rustls-webpki 0.103.17, cryptography 50.0.2
#
# Guess: a name constraint for DNS names says nothing about a leaf that has no DNS name (RFC 5280 §4.2.1.10: "if no name of the type is in the
#        certificate, the certificate is acceptable"), so a leaf whose only name is a SPIFFE URI passes below it.
# Seen:  Java takes the common name of the subject, "worker-7", for a DNS name, finds it outside and refuses; GnuTLS does the same once the leaf has
#        serverAuth, as SPIFFE leaves have. With "worker 7" Java accepts and GnuTLS still refuses; without a common name all accept.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
install_verifiers
uri='subjectAltName=URI:spiffe://example.org/node/1'
certificate root /CN=Root "$usual_ca"
certificate between /CN=Between "$usual_ca\nauthorityKeyIdentifier=keyid\nnameConstraints=critical,permitted;DNS:example.org" root
certificate with-name '/CN=worker-7' "$usual_leaf\n$uri\nextendedKeyUsage=clientAuth,serverAuth" between
certificate client-only /CN=worker-7 "$usual_leaf\n$uri\nextendedKeyUsage=clientAuth" between
certificate with-space '/CN=worker 7' "$usual_leaf\n$uri\nextendedKeyUsage=clientAuth,serverAuth" between
certificate without-name /O=Example "$usual_leaf\n$uri\nextendedKeyUsage=clientAuth,serverAuth" between
{
  echo 'subject CN=worker-7'
  verify_all client root with-name between
  echo 'subject CN=worker-7, clientAuth alone'
  verify_all client root client-only between
  echo 'subject CN=worker 7'
  verify_all client root with-space between
  echo 'subject O=Example'
  verify_all client root without-name between
} >seen
expect 'below a DNS name constraint Java and GnuTLS take the common name of a SPIFFE leaf for a host' <<'END'
subject CN=worker-7
  OpenSSL: accepts
  GnuTLS: refuses, The certificate chain violates the signer's constraints
  Go: accepts
  Java: refuses, name constraints check failed
  webpki: accepts
  cryptography: accepts
subject CN=worker-7, clientAuth alone
  OpenSSL: accepts
  GnuTLS: accepts
  Go: accepts
  Java: refuses, name constraints check failed
  webpki: accepts
  cryptography: accepts
subject CN=worker 7
  OpenSSL: accepts
  GnuTLS: refuses, The certificate chain violates the signer's constraints
  Go: accepts
  Java: accepts
  webpki: accepts
  cryptography: accepts
subject O=Example
  OpenSSL: accepts
  GnuTLS: accepts
  Go: accepts
  Java: accepts
  webpki: accepts
  cryptography: accepts
END
