# shellcheck shell=bash
# Sourced by the scripts about certificates: makes certificates with openssl, and asks six verifiers what they think of a chain.

# certificate NAME SUBJECT EXTENSIONS [ISSUER]: NAME.pem and NAME.key (P-256, unless it is there); signed by itself without an issuer
certificate() {
  local name=$1 subject=$2 extensions=$3 issuer=${4:-}
  [ -f "$name.key" ] || openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
  printf '[req]\nprompt=no\nstring_mask=%s\ndistinguished_name=dn\n[dn]\n' "${string_mask:-utf8only}" >req.cnf
  openssl req -new -key "$name.key" -subj "$subject" -config req.cnf -out "$name.csr"
  printf '%b\n' "$extensions" >"$name.ext"
  if [ -z "$issuer" ]; then
    openssl x509 -req -in "$name.csr" -signkey "$name.key" -days 365 -extfile "$name.ext" -out "$name.pem" 2>/dev/null
  else
    openssl x509 -req -in "$name.csr" -CA "$issuer.pem" -CAkey "$issuer.key" -CAcreateserial -days 365 -extfile "$name.ext" -out "$name.pem" 2>/dev/null
  fi
}

# What a usual authority and a usual leaf have.
usual_ca='basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash'
usual_leaf='basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid'

# install_verifiers: OpenSSL, GnuTLS (Debian 12), Go and Java (those of the machine), Rust's webpki, Python's cryptography
install_verifiers() {
  apt_install 'openssl=3.0.*' 'gnutls-bin=3.7.9-*'
  pip_install cryptography==50.0.2
  cargo_get rustls-webpki@=0.103.17+ring,std rustls-pki-types@=1.16.0
  cat >src/main.rs <<'END'
use rustls_pki_types::{pem::PemObject, CertificateDer, ServerName, UnixTime};
use webpki::{anchor_from_trusted_cert, EndEntityCert, KeyUsage, ALL_VERIFICATION_ALGS};

fn load(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(name).unwrap()
}

fn verify(arguments: &[String]) -> Result<(), webpki::Error> {
    let root = load(&arguments[2]);
    let leaf = load(&arguments[3]);
    let between: Vec<_> = arguments[4..].iter().map(|name| load(name)).collect();
    let anchors = [anchor_from_trusted_cert(&root)?];
    let server = arguments[1] == "server";
    let usage = if server { KeyUsage::server_auth() } else { KeyUsage::client_auth() };
    let end_entity = EndEntityCert::try_from(&leaf)?;
    end_entity.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &between, UnixTime::now(), usage, None, None)?;
    if server {
        end_entity.verify_is_valid_for_subject_name(&ServerName::try_from("node.example").unwrap())?;
    }
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match verify(&arguments) {
        Ok(()) => println!("accepts"),
        Err(error) => {
            let said = format!("{error:?}");
            println!("refuses, {}", said.split(['(', ' ']).next().unwrap());
        }
    }
}
END
  mkdir -p go-verify
  cat >go-verify/main.go <<'END'
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func load(name string) *x509.Certificate {
	text, _ := os.ReadFile(name)
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		fmt.Println("refuses,", err)
		os.Exit(0)
	}
	return certificate
}

func main() {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	options.Roots.AddCert(load(os.Args[2]))
	for _, name := range os.Args[4:] {
		options.Intermediates.AddCert(load(name))
	}
	options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if os.Args[1] == "server" {
		options.DNSName = "node.example"
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if _, err := load(os.Args[3]).Verify(options); err != nil {
		fmt.Println("refuses,", err)
	} else {
		fmt.Println("accepts")
	}
}
END
  go build -o go-verifier go-verify/main.go
  cat >Verify.java <<'END'
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

class Verify {
  static X509Certificate load(String name) throws Exception {
    try (var in = new FileInputStream(name)) {
      return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in);
    }
  }

  public static void main(String[] arguments) throws Exception {
    var anchors = KeyStore.getInstance("PKCS12");
    anchors.load(null, null);
    anchors.setCertificateEntry("root", load(arguments[1]));
    var factory = TrustManagerFactory.getInstance("PKIX");
    factory.init(anchors);
    var manager = (X509TrustManager) factory.getTrustManagers()[0];
    var chain = new ArrayList<X509Certificate>();
    for (String name : Arrays.copyOfRange(arguments, 2, arguments.length)) chain.add(load(name));
    try {
      if (arguments[0].equals("server")) manager.checkServerTrusted(chain.toArray(new X509Certificate[0]), "ECDHE_ECDSA");
      else manager.checkClientTrusted(chain.toArray(new X509Certificate[0]), "EC");
      System.out.println("accepts");
    } catch (CertificateException error) {
      Throwable cause = error;
      while (cause.getCause() != null) cause = cause.getCause();
      System.out.println("refuses, " + cause.getMessage());
    }
  }
}
END
  javac Verify.java
  cat >verify.py <<'END'
import sys
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
load = lambda name: x509.load_pem_x509_certificate(open(name, "rb").read())
builder = PolicyBuilder().store(Store([load(sys.argv[2])]))
server = sys.argv[1] == "server"
verifier = builder.build_server_verifier(x509.DNSName("node.example")) if server else builder.build_client_verifier()
try:
    verifier.verify(load(sys.argv[3]), [load(name) for name in sys.argv[4:]])
    print("accepts")
except VerificationError as error:
    print("refuses,", str(error).removeprefix("validation failed: ").split(" (encountered")[0])
END
}

# verify_all server|client ROOT LEAF [BETWEEN …]
verify_all() {
  local usage=$1 root=$2 leaf=$3 said purpose untrusted=() names=()
  shift 3
  for said in "$@"; do names+=("$said.pem") untrusted+=(-untrusted "$said.pem"); done
  if said=$(openssl verify -purpose "ssl$usage" -CAfile "$root.pem" "${untrusted[@]}" "$leaf.pem" 2>&1); then
    echo '  OpenSSL: accepts'
  else
    echo "  OpenSSL: refuses, $(grep -o 'lookup: .*' <<<"$said" | head -1 | cut -c9-)"
  fi
  purpose=$([ "$usage" = server ] && echo 1.3.6.1.5.5.7.3.1 || echo 1.3.6.1.5.5.7.3.2)
  if said=$(cat "$leaf.pem" "${names[@]}" | certtool --verify --verify-purpose="$purpose" --load-ca-certificate "$root.pem" 2>&1); then
    echo '  GnuTLS: accepts'
  else
    echo "  GnuTLS: refuses, $(grep -o 'NOT trusted.*' <<<"$said" | tail -1 | sed 's/NOT trusted. //; s/[. ]*$//')"
  fi
  echo "  Go: $(./go-verifier "$usage" "$root.pem" "$leaf.pem" "${names[@]}")"
  echo "  Java: $(java Verify "$usage" "$root.pem" "$leaf.pem" "${names[@]}")"
  echo "  webpki: $(cargo run --quiet -- "$usage" "$root.pem" "$leaf.pem" "${names[@]}")"
  echo "  cryptography: $(venv/bin/python verify.py "$usage" "$root.pem" "$leaf.pem" "${names[@]}")"
}
