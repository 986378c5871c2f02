#!/usr/bin/env bash
# OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, crypto/x509 of Go 1.26, Java 17, rustls-webpki 0.103.17, cryptography 50.0.2
#
# Guess: anyExtendedKeyUsage (RFC 5280 §4.2.1.12) fits every purpose: a leaf or an authority that carries it passes as a TLS client or server, as if it
#        had no extended key usage at all.
# Seen:  they split, and not along one line. In a leaf: Go, Java and GnuTLS accept, OpenSSL, webpki and cryptography refuse. In an intermediate:
#        Go, Java and cryptography accept, OpenSSL, GnuTLS and webpki refuse. In a root: only OpenSSL refuses.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
install_verifiers
any='extendedKeyUsage=anyExtendedKeyUsage'
both='extendedKeyUsage=clientAuth,serverAuth'
certificate root /CN=Root "$usual_ca"
certificate root-any /CN=RootAny "$usual_ca\n$any"
certificate between-any /CN=Between "$usual_ca\nauthorityKeyIdentifier=keyid\n$any" root
certificate leaf-any /CN=leaf "$usual_leaf\n$any\nsubjectAltName=DNS:node.example" root
certificate leaf1 /CN=leaf "$usual_leaf\n$both\nsubjectAltName=DNS:node.example" root-any
certificate leaf2 /CN=leaf "$usual_leaf\n$both\nsubjectAltName=DNS:node.example" between-any
{
  echo 'in the leaf, as a client'
  verify_all client root leaf-any
  echo 'in the leaf, as a server'
  verify_all server root leaf-any
  echo 'in the intermediate, as a server'
  verify_all server root leaf2 between-any
  echo 'in the root, as a server'
  verify_all server root-any leaf1
} >seen
expect 'anyExtendedKeyUsage fits every purpose for half of the verifiers, and none for the other half' <<'END'
in the leaf, as a client
  OpenSSL: refuses, unsuitable certificate purpose
  GnuTLS: accepts
  Go: accepts
  Java: accepts
  webpki: refuses, RequiredEkuNotFoundContext
  cryptography: refuses, required EKU not found
in the leaf, as a server
  OpenSSL: refuses, unsuitable certificate purpose
  GnuTLS: accepts
  Go: accepts
  Java: accepts
  webpki: refuses, RequiredEkuNotFoundContext
  cryptography: refuses, required EKU not found
in the intermediate, as a server
  OpenSSL: refuses, unsuitable certificate purpose
  GnuTLS: refuses, The certificate chain does not match the intended purpose
  Go: accepts
  Java: accepts
  webpki: refuses, RequiredEkuNotFoundContext
  cryptography: accepts
in the root, as a server
  OpenSSL: refuses, unsuitable certificate purpose
  GnuTLS: accepts
  Go: accepts
  Java: accepts
  webpki: accepts
  cryptography: accepts
END
