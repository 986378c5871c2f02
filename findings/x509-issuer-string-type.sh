#!/usr/bin/env bash
# OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, crypto/x509 of Go 1.26, Java 17, rustls-webpki 0.103.17, cryptography 50.0.2
#
# Guess: an authority whose certificate is made again, with the same key and the same name, still verifies the leaves it issued before. RFC 5280 §7.1
#        compares names by their text, whatever string type holds it.
# Seen:  only for OpenSSL and Java. OpenSSL's `req` writes a name as UTF8String, Go's x509 as PrintableString; where the issuer in the leaf has the one and
#        the renewed root the other, Go, GnuTLS, webpki and cryptography compare bytes and find no issuer. The same for two spaces, or "CA" and "ca".
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
install_verifiers
certificate root /CN=Root "$usual_ca"
certificate leaf /CN=leaf "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:node.example" root
cp root.key renewed.key
cp root.key other-case.key
string_mask=nombstr certificate renewed /CN=Root "$usual_ca"
certificate other-case /CN=ROOT "$usual_ca"
{
  for name in root renewed other-case; do
    echo "$name: $(openssl asn1parse -in $name.pem | grep -m1 -oE '(UTF8STRING|PRINTABLESTRING) *:.*')"
    verify_all server $name leaf
  done
} >seen
expect 'a root made again with another string type in its name loses its leaves in four of six verifiers' <<'END'
root: UTF8STRING        :Root
  OpenSSL: accepts
  GnuTLS: accepts
  Go: accepts
  Java: accepts
  webpki: accepts
  cryptography: accepts
renewed: PRINTABLESTRING   :Root
  OpenSSL: accepts
  GnuTLS: refuses, The certificate issuer is unknown
  Go: refuses, x509: certificate signed by unknown authority
  Java: accepts
  webpki: refuses, UnknownIssuer
  cryptography: refuses, candidates exhausted: all candidates exhausted with no interior errors
other-case: UTF8STRING        :ROOT
  OpenSSL: accepts
  GnuTLS: refuses, The certificate issuer is unknown
  Go: refuses, x509: certificate signed by unknown authority
  Java: accepts
  webpki: refuses, UnknownIssuer
  cryptography: refuses, candidates exhausted: all candidates exhausted with no interior errors
END
