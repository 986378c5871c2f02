#!/usr/bin/env bash
# PEM certificates read by OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, Python 3.11 (ssl), cryptography 50.0.2, Node 20, Go 1.26, Java 17, rustls-pki-types 1.16.0
#
# Guess: a blank line inside a PEM block, as copying and YAML leave them, is white space like any other (RFC 7468 §3 lets parsers skip it), or wrong for all.
# Seen:  after the BEGIN line it is fine everywhere. Between the lines of base64, or before the END line, OpenSSL and what stands on it (Node, Python's ssl) and
#        cryptography refuse the certificate; Go, Java, GnuTLS and Rust read it. So one half of a fleet starts with a file that stops the other half.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
apt_install 'openssl=3.0.*' 'gnutls-bin=3.7.9-*'
pip_install cryptography==50.0.2
cargo_get rustls-pki-types@=1.16.0+std
certificate plain /CN=plain "$usual_ca"
sed '1a\\' plain.pem >after-begin.pem
sed '3a\\' plain.pem >between.pem
sed '/END/i\\' plain.pem >before-end.pem
cat >read.py <<'END'
import ssl, sys
from cryptography import x509
def ask(read):
    try:
        read()
        return "read"
    except Exception:
        return "refused"
name = sys.argv[1]
print("Python's ssl", ask(lambda: ssl.create_default_context(cafile=name)) + ", cryptography", ask(lambda: x509.load_pem_x509_certificate(open(name, "rb").read())), end="")
END
cat >read.mjs <<'END'
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
try {
  createSecureContext({ cert: readFileSync(process.argv[2]) });
  process.stdout.write('read');
} catch {
  process.stdout.write('refused');
}
END
cat >main.go <<'END'
package main

import (
	"encoding/pem"
	"fmt"
	"os"
)

func main() {
	text, _ := os.ReadFile(os.Args[1])
	if block, _ := pem.Decode(text); block == nil {
		fmt.Print("refused")
	} else {
		fmt.Print("read")
	}
}
END
go build -o go-read main.go
cat >Read.java <<'END'
class Read {
  public static void main(String[] arguments) throws Exception {
    try (var in = new java.io.FileInputStream(arguments[0])) {
      java.security.cert.CertificateFactory.getInstance("X.509").generateCertificate(in);
      System.out.print("read");
    } catch (java.security.cert.CertificateException error) {
      System.out.print("refused");
    }
  }
}
END
javac Read.java
cat >src/main.rs <<'END'
use rustls_pki_types::{pem::PemObject, CertificateDer};

fn main() {
    let read = CertificateDer::from_pem_file(std::env::args().nth(1).unwrap()).is_ok();
    print!("{}", if read { "read" } else { "refused" });
}
END
cargo build --quiet
tell() { if "$@" >/dev/null 2>&1; then printf read; else printf refused; fi; }
for name in plain after-begin between before-end; do
  file=$name.pem
  echo "$name: openssl $(tell openssl x509 -noout -in $file), $(venv/bin/python read.py $file), GnuTLS $(tell certtool -i --infile $file), Node $(node read.mjs $file), Go $(./go-read $file), Java $(java Read $file), Rust $(target/debug/finding $file)"
done >seen
expect 'a blank line inside a PEM certificate stops OpenSSL, Node and Python, but not Go, Java, GnuTLS and Rust' <<'END'
plain: openssl read, Python's ssl read, cryptography read, GnuTLS read, Node read, Go read, Java read, Rust read
after-begin: openssl read, Python's ssl read, cryptography read, GnuTLS read, Node read, Go read, Java read, Rust read
between: openssl refused, Python's ssl refused, cryptography refused, GnuTLS read, Node refused, Go read, Java read, Rust read
before-end: openssl refused, Python's ssl refused, cryptography refused, GnuTLS read, Node refused, Go read, Java read, Rust read
END
