#!/usr/bin/env bash
# crypto/tls of Go 1.26, Java 17, rustls 0.23.46, Node 20, Python 3.11, curl 7.88 and GnuTLS 3.7.9 of Debian 12 as TLS 1.3 clients
#
# Guess: a client that is configured with one certificate sends it when a server asks for one; whether its issuer is among the authorities that the
#        server names is the server's business.
# Seen:  Go and Java look themselves: when no named authority issued the certificate they send none, without a word or a log line, so the server sees an
#        anonymous client. rustls, Node, Python, curl and gnutls-cli send it. The names must match the chain the client HOLDS: with the leaf alone, issued by
#        an intermediate while the server names the root, Go and Java send nothing; with the intermediate in the file they send both.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
apt_install 'openssl=3.0.*' 'gnutls-bin=3.7.9-*' 'curl=7.88.1-*'
cargo_get rustls@=0.23.46+ring,std
certificate root /CN=Root "$usual_ca"
certificate other /CN=Other "$usual_ca"
certificate between /CN=Between "$usual_ca\nauthorityKeyIdentifier=keyid" root
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1" root
certificate client /CN=client "$usual_leaf\nextendedKeyUsage=clientAuth" between
cat client.pem between.pem >chain.pem
openssl pkcs8 -topk8 -nocrypt -in client.key -out client.p8
cat >server.mjs <<'END'
import { createServer } from 'node:tls';
import { readFileSync, writeFileSync } from 'node:fs';
const [key, cert, ca] = ['server.key', 'server.pem', `${process.argv[2]}.pem`].map(name => readFileSync(name));
const server = createServer({ key, cert, ca, requestCert: true, rejectUnauthorized: false }, socket => {
  socket.on('error', () => {});
  console.log(socket.getPeerCertificate().subject ? 'a certificate' : 'none');
  socket.end('HTTP/1.0 200 OK\r\n\r\n');
});
server.listen(0, '127.0.0.1', () => writeFileSync('port', String(server.address().port)));
END
cat >client.mjs <<'END'
import { connect } from 'node:tls';
import { readFileSync } from 'node:fs';
const [ca, cert, key] = ['root.pem', `${process.argv[3]}.pem`, 'client.key'].map(name => readFileSync(name));
connect({ host: '127.0.0.1', port: Number(process.argv[2]), ca, cert, key }).resume();
END
cat >client.py <<'END'
import socket, ssl, sys
context = ssl.create_default_context(cafile="root.pem")
context.load_cert_chain(sys.argv[2] + ".pem", "client.key")
context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname="localhost").recv(9)
END
cat >client.go <<'END'
package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

func main() {
	text, _ := os.ReadFile("root.pem")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	pair, _ := tls.LoadX509KeyPair(os.Args[2]+".pem", "client.key")
	connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
	if err != nil {
		panic(err)
	}
	connection.Read(make([]byte, 9))
}
END
go build -o go-client client.go
cat >Client.java <<'END'
import java.io.FileInputStream;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.util.Base64;
import javax.net.ssl.*;

class Client {
  public static void main(String[] arguments) throws Exception {
    var read = CertificateFactory.getInstance("X.509");
    var chain = read.generateCertificates(new FileInputStream(arguments[1] + ".pem")).toArray(new java.security.cert.Certificate[0]);
    var body = Files.readString(Path.of("client.p8")).replaceAll("-----[A-Z ]+-----|\\s", "");
    var key = KeyFactory.getInstance("EC").generatePrivate(new java.security.spec.PKCS8EncodedKeySpec(Base64.getDecoder().decode(body)));
    KeyStore keys = KeyStore.getInstance("PKCS12"), roots = KeyStore.getInstance("PKCS12");
    keys.load(null, null);
    roots.load(null, null);
    keys.setKeyEntry("client", key, new char[0], chain);
    roots.setCertificateEntry("root", read.generateCertificate(new FileInputStream("root.pem")));
    var own = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    own.init(keys, new char[0]);
    var trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(roots);
    var context = SSLContext.getInstance("TLS");
    context.init(own.getKeyManagers(), trust.getTrustManagers(), null);
    context.getSocketFactory().createSocket("127.0.0.1", Integer.parseInt(arguments[0])).getInputStream().read();
  }
}
END
javac Client.java
cat >src/main.rs <<'END'
use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use std::io::Read;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file("root.pem").unwrap()).unwrap();
    let chain = CertificateDer::pem_file_iter(format!("{}.pem", arguments[2])).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file("client.key").unwrap();
    let config = ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    let mut socket = std::net::TcpStream::connect(format!("127.0.0.1:{}", arguments[1])).unwrap();
    let mut tls = ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
    Stream::new(&mut tls, &mut socket).read(&mut [0; 9]).unwrap();
}
END
cargo build --quiet
# ask SERVER_NAMES CLIENT_FILE
ask() {
  local id port
  rm -f port
  node server.mjs "$1" >server.log &
  id=$!
  started+=("$id")
  while [ ! -s port ]; do sleep 0.1; done
  port=$(cat port)
  say() {
    local name=$1
    shift
    "$@" </dev/null >/dev/null 2>&1 || true
    while [ ! -s server.log ]; do sleep 0.1; done
    echo "  $name: $(cat server.log)"
    : >server.log
  }
  echo "the server names $1; the client has $2"
  say Go ./go-client "$port" "$2"
  say Java java Client "$port" "$2"
  say rustls target/debug/finding "$port" "$2"
  say Node node client.mjs "$port" "$2"
  say Python python3 client.py "$port" "$2"
  say curl curl --silent --cacert root.pem --cert "$2.pem" --key client.key "https://127.0.0.1:$port/"
  say gnutls-cli gnutls-cli --x509cafile root.pem --x509certfile "$2.pem" --x509keyfile client.key -p "$port" 127.0.0.1
  kill "$id"
}
{
  ask other chain
  ask root client
  ask root chain
  ask between client
} >seen 2>/dev/null
expect 'Go and Java send no client certificate when the server names another authority; five others do' <<'END'
the server names other; the client has chain
  Go: none
  Java: none
  rustls: a certificate
  Node: a certificate
  Python: a certificate
  curl: a certificate
  gnutls-cli: a certificate
the server names root; the client has client
  Go: none
  Java: none
  rustls: a certificate
  Node: a certificate
  Python: a certificate
  curl: a certificate
  gnutls-cli: a certificate
the server names root; the client has chain
  Go: a certificate
  Java: a certificate
  rustls: a certificate
  Node: a certificate
  Python: a certificate
  curl: a certificate
  gnutls-cli: a certificate
the server names between; the client has client
  Go: a certificate
  Java: a certificate
  rustls: a certificate
  Node: a certificate
  Python: a certificate
  curl: a certificate
  gnutls-cli: a certificate
END
