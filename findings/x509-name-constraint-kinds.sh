#!/usr/bin/env bash
# OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, crypto/x509 of Go 1.26, Java 17, rustls-webpki 0.103.17, cryptography 50.0.2
#
# Guess: an authority of one SPIFFE trust domain says so by a name constraint, permitted URI example.org, and one of a company by permitted directoryName;
#        both kinds are in RFC 5280 §4.2.1.10, so leaves inside them pass everywhere.
# Seen:  webpki refuses every leaf with a URI below any URI constraint, though it is permitted (NameConstraintViolation), cryptography calls the kind
#        unsupported. A directoryName constraint is an "unhandled critical extension" for Go, a violation for webpki, a fatal error for cryptography, although
#        the leaf is inside. So constraining an authority to its trust domain takes it away from every peer in Rust and Python.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
install_verifiers
leaf="$usual_leaf\nextendedKeyUsage=clientAuth\nsubjectAltName=URI:spiffe://example.org/node/1"
constrained() { printf '%s' "$usual_ca\nauthorityKeyIdentifier=keyid\nnameConstraints=critical,$1"; }
certificate root /CN=Root "$usual_ca"
certificate uri /CN=Uri "$(constrained 'permitted;URI:example.org')" root
certificate leaf-uri /O=Example/CN=leaf "$leaf" uri
certificate directory /CN=Directory "$(constrained 'permitted;dirName:names\n[names]\nO=Example')" root
certificate leaf-directory /O=Example/CN=leaf "$leaf" directory
{
  echo 'permitted: URI example.org; in the leaf: spiffe://example.org/node/1'
  verify_all client root leaf-uri uri
  echo 'permitted: directory name O=Example; in the leaf: O=Example, CN=leaf'
  verify_all client root leaf-directory directory
} >seen
expect 'name constraints for URIs and directory names make verifiers refuse the very names that are permitted' <<'END'
permitted: URI example.org; in the leaf: spiffe://example.org/node/1
  OpenSSL: accepts
  GnuTLS: accepts
  Go: accepts
  Java: accepts
  webpki: refuses, NameConstraintViolation
  cryptography: refuses, candidates exhausted: unsupported name constraint
permitted: directory name O=Example; in the leaf: O=Example, CN=leaf
  OpenSSL: accepts
  GnuTLS: accepts
  Go: refuses, x509: unhandled critical extension
  Java: accepts
  webpki: refuses, NameConstraintViolation
  cryptography: refuses, fatal error: critical nameConstraints extension contains an unsupported directoryName constraint
END
