#!/usr/bin/env bash
# cfssl 1.2.0 (Debian 12's golang-cfssl); beside mkcert 1.4.4 and certtool of GnuTLS 3.7.9, Debian 12
#
# Guess: a CSR whose `hosts` holds spiffe://example.org/node/1 gets a URI among its alternative names, since cfssl sorts hosts into DNS names, IP and mail addresses.
# Seen:  it becomes a DNS name: "DNS:spiffe://example.org/node/1", without a word. Go finds no URI in it, and a check for exactly one SPIFFE URI finds none.
#        mkcert and certtool write a URI.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'golang-cfssl=1.2.0*' 'mkcert=1.4.4-*' 'gnutls-bin=3.7.9-*' 'openssl=3.0.*'
id=spiffe://example.org/node/1
echo '{"CN":"Root","key":{"algo":"ecdsa","size":256}}' >root.json
echo "{\"CN\":\"node\",\"hosts\":[\"$id\"],\"key\":{\"algo\":\"ecdsa\",\"size\":256}}" >leaf.json
cfssl gencert -initca root.json 2>/dev/null | cfssljson -bare root
cfssl gencert -ca root.pem -ca-key root-key.pem leaf.json 2>/dev/null | cfssljson -bare cfssl
CAROOT="$work" mkcert -ecdsa -cert-file mkcert.pem -key-file mkcert.key "$id" >/dev/null 2>&1
printf 'cn = node\nuri = %s\nsigning_key\n' "$id" >template
certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile gnutls.key 2>/dev/null
certtool --generate-self-signed --load-privkey gnutls.key --template template --outfile certtool.pem 2>/dev/null
cat >main.go <<'END'
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func main() {
	for _, name := range os.Args[1:] {
		text, _ := os.ReadFile(name + ".pem")
		block, _ := pem.Decode(text)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			fmt.Println(name, err)
			continue
		}
		fmt.Printf("%s: DNS names %q, URIs %q\n", name, certificate.DNSNames, certificate.URIs)
	}
}
END
go run main.go cfssl mkcert certtool >seen
expect 'cfssl writes a SPIFFE id as a DNS name' <<'END'
cfssl: DNS names ["spiffe://example.org/node/1"], URIs []
mkcert: DNS names [], URIs ["spiffe://example.org/node/1"]
certtool: DNS names [], URIs ["spiffe://example.org/node/1"]
END
