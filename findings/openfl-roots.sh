#!/usr/bin/env bash
# OpenFL 1.8 (openfl.cryptography); OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, crypto/x509 of Go 1.26, Java 17
#
# Guess: a site that takes part in two OpenFL federations puts both roots into one file of trusted roots, and peers of either are verified: a verifier
#        tries one root after the other until the signature fits.
# Seen:  the root of each federation has the same name (CN=Simple Root CA), another key and no key identifier. OpenSSL (Node, Python, gRPC) then tries the
#        first of the file alone, GnuTLS the last alone, and peers of the other federation fail as if forged: "certificate signature failure". Go and
#        Java try both. OpenSSL's strict mode, Python's default since 3.13, refuses either: no key identifier, no key usage.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'openssl=3.0.*' 'gnutls-bin=3.7.9-*'
pip_install --no-deps openfl==1.8 2>/dev/null
pip_install cryptography==43.0.3 2>/dev/null
cat >federation.py <<'END'
import sys
from cryptography.hazmat.primitives.serialization import Encoding
from openfl.cryptography.ca import generate_root_cert, generate_signing_csr, sign_certificate
from openfl.cryptography.participant import generate_csr
root_key, root = generate_root_cert()
signing_key, signing_request = generate_signing_csr()
signing = sign_certificate(signing_request, root_key, root.subject, ca=True)
_, request = generate_csr("node.example", server=True)
leaf = sign_certificate(request, signing_key, signing.subject)
for name, certificate in (("root", root), ("between", signing), ("leaf", leaf)):
    open(f"{sys.argv[1]}-{name}.pem", "wb").write(certificate.public_bytes(Encoding.PEM))
END
for name in one two; do venv/bin/python federation.py $name 2>/dev/null; done
cat one-root.pem two-root.pem >roots.pem
cat >verify.go <<'END'
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func main() {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: "node.example"}
	for pool, name := range map[*x509.CertPool]string{options.Roots: "roots.pem", options.Intermediates: os.Args[1] + "-between.pem"} {
		text, _ := os.ReadFile(name)
		pool.AppendCertsFromPEM(text)
	}
	text, _ := os.ReadFile(os.Args[1] + "-leaf.pem")
	block, _ := pem.Decode(text)
	leaf, _ := x509.ParseCertificate(block.Bytes)
	if _, err := leaf.Verify(options); err != nil {
		fmt.Println("refuses,", err)
	} else {
		fmt.Println("accepts")
	}
}
END
go build -o go-verifier verify.go
cat >Verify.java <<'END'
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

class Verify {
  static Collection<? extends Certificate> load(String name) throws Exception {
    return CertificateFactory.getInstance("X.509").generateCertificates(new FileInputStream(name));
  }

  public static void main(String[] arguments) throws Exception {
    var anchors = KeyStore.getInstance("PKCS12");
    anchors.load(null, null);
    int number = 0;
    for (var root : load("roots.pem")) anchors.setCertificateEntry("root" + number++, root);
    var factory = TrustManagerFactory.getInstance("PKIX");
    factory.init(anchors);
    var chain = new ArrayList<Certificate>(load(arguments[0] + "-leaf.pem"));
    chain.addAll(load(arguments[0] + "-between.pem"));
    try {
      ((X509TrustManager) factory.getTrustManagers()[0]).checkServerTrusted(chain.toArray(new X509Certificate[0]), "ECDHE_RSA");
      System.out.println("accepts");
    } catch (CertificateException error) {
      System.out.println("refuses, " + error.getMessage());
    }
  }
}
END
{
  openssl x509 -in one-root.pem -noout -subject -nameopt multiline | grep commonName | tr -s ' '
  openssl x509 -in two-root.pem -noout -subject -nameopt multiline | grep commonName | tr -s ' '
  for name in one two; do
    echo "a peer of federation $name, both roots in the file"
    said=$(openssl verify -CAfile roots.pem -untrusted $name-between.pem $name-leaf.pem 2>&1 || true)
    echo "  OpenSSL: $(grep -q ': OK' <<<"$said" && echo accepts || echo "refuses, $(grep -o 'lookup: .*' <<<"$said" | cut -c9-)")"
    said=$(cat $name-leaf.pem $name-between.pem | certtool --verify --load-ca-certificate roots.pem 2>&1 || true)
    echo "  GnuTLS: $(tail -2 <<<"$said" | grep -q 'Verified' && echo accepts || echo "refuses, $(grep -o 'NOT trusted.*' <<<"$said" | tail -1 | cut -c14- | sed 's/[. ]*$//')")"
    echo "  Go: $(./go-verifier $name)"
    echo "  Java: $(java Verify.java $name)"
    echo "  OpenSSL strict, its own root alone: $(openssl verify -x509_strict -CAfile $name-root.pem -untrusted $name-between.pem $name-leaf.pem 2>&1 | grep -o 'lookup: .*' | cut -c9- | sort -u | paste -sd,)"
  done
} >seen
expect 'of two OpenFL federations in one file of roots, OpenSSL knows the first and GnuTLS the last' <<'END'
 commonName = Simple Root CA
 commonName = Simple Root CA
a peer of federation one, both roots in the file
  OpenSSL: accepts
  GnuTLS: refuses, The signature in the certificate is invalid
  Go: accepts
  Java: accepts
  OpenSSL strict, its own root alone: CA cert does not include key usage extension,Missing Authority Key Identifier,Missing Subject Key Identifier
a peer of federation two, both roots in the file
  OpenSSL: refuses, certificate signature failure
  GnuTLS: accepts
  Go: accepts
  Java: accepts
  OpenSSL strict, its own root alone: CA cert does not include key usage extension,Missing Authority Key Identifier,Missing Subject Key Identifier
END
