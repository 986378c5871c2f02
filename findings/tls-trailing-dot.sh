#!/usr/bin/env bash
# TLS clients of Node 20, Python 3.11, Go 1.26, Java 17, rustls 0.23.46, curl 7.88 and openssl s_client 3.0 of Debian 12
#
# Guess: a host name with a final dot ("link.example.", an absolute name, as Kubernetes manifests write it to save look-ups) is the same host: clients send
#        the SNI without the dot (RFC 6066 §3), and compare the certificate without it.
# Seen:  five behaviours. Go, rustls and curl do that. Node sends the dot, and accepts the certificate. Python and openssl compare with the dot: "Hostname
#        mismatch". Java's SSLSocket sends no SNI at all and accepts; Java's HttpClient throws IllegalArgumentException before it sends a byte.
. "$(dirname "$0")/lib.sh"
. "$here/x509-verifiers.sh"
apt_install 'openssl=3.0.*' 'curl=7.88.1-*'
cargo_get rustls@=0.23.46+ring,std
certificate root /CN=Root "$usual_ca"
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:link.example" root
cat >server.mjs <<'END'
import { createServer } from 'node:tls';
import { readFileSync, writeFileSync } from 'node:fs';
const [key, cert] = ['server.key', 'server.pem'].map(name => readFileSync(name));
const server = createServer({ key, cert }, socket => {
  socket.on('error', () => {});
  console.log(`the server saw ${socket.servername || 'no SNI'}`);
  socket.end('HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n');
});
server.on('tlsClientError', () => console.log('the handshake failed'));
server.listen(0, '127.0.0.1', () => writeFileSync('port', String(server.address().port)));
END
cat >client.mjs <<'END'
import { connect } from 'node:tls';
import { readFileSync } from 'node:fs';
const socket = connect({ host: '127.0.0.1', servername: process.argv[3], port: Number(process.argv[2]), ca: readFileSync('root.pem') });
socket.on('secureConnect', () => console.log('accepted'));
socket.on('error', error => console.log(error.message)).resume();
END
cat >client.py <<'END'
import socket, ssl, sys
context = ssl.create_default_context(cafile="root.pem")
try:
    context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname=sys.argv[2])
    print("accepted")
except ssl.SSLCertVerificationError as error:
    print(error.verify_message)
END
cat >client.go <<'END'
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func main() {
	text, _ := os.ReadFile("root.pem")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	_, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{RootCAs: roots, ServerName: os.Args[2]})
	if err == nil {
		fmt.Println("accepted")
	} else {
		fmt.Println(err)
	}
}
END
go build -o go-client client.go
cat >Client.java <<'END'
import java.io.FileInputStream;
import java.net.*;
import java.net.http.*;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.*;

class Client {
  public static void main(String[] arguments) throws Exception {
    int port = Integer.parseInt(arguments[0]);
    String host = arguments[1];
    var roots = KeyStore.getInstance("PKCS12");
    roots.load(null, null);
    roots.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream("root.pem")));
    var trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(roots);
    var context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    try {
      if (arguments[2].equals("socket")) {
        var socket = (SSLSocket) context.getSocketFactory().createSocket(new Socket("127.0.0.1", port), host, port, true);
        var settings = socket.getSSLParameters();
        settings.setEndpointIdentificationAlgorithm("HTTPS");
        socket.setSSLParameters(settings);
        socket.startHandshake();
      } else {
        var request = HttpRequest.newBuilder(URI.create("https://" + host + ":" + port + "/")).build();
        HttpClient.newBuilder().sslContext(context).build().send(request, HttpResponse.BodyHandlers.discarding());
      }
      System.out.println("accepted");
    } catch (Throwable error) {
      System.out.println(error);
    }
  }
}
END
javac Client.java
cat >src/main.rs <<'END'
use rustls::pki_types::{pem::PemObject, CertificateDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use std::io::Read;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file("root.pem").unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    let mut socket = std::net::TcpStream::connect(format!("127.0.0.1:{}", arguments[1])).unwrap();
    let mut tls = ClientConnection::new(config.into(), arguments[2].clone().try_into().unwrap()).unwrap();
    match Stream::new(&mut tls, &mut socket).read(&mut [0; 9]) {
        Ok(_) => println!("accepted"),
        Err(error) => println!("{error}"),
    }
}
END
cargo build --quiet
node server.mjs >server.log &
started+=("$!")
while [ ! -s port ]; do sleep 0.1; done
port=$(cat port)
say() {
  local name=$1
  shift
  : >server.log
  echo "$name: $("$@" </dev/null 2>/dev/null | tail -1); $(sleep 0.5; tr -d '\0' <server.log)"
}
of_openssl() { openssl s_client -connect "127.0.0.1:$port" -servername link.example. -CAfile root.pem -verify_hostname link.example. -verify_return_error 2>&1 | grep -a -m1 -o 'hostname mismatch'; }
of_curl() { curl --silent --resolve "link.example.:$port:127.0.0.1" --resolve "link.example:$port:127.0.0.1" --cacert root.pem "https://link.example.:$port/" && echo accepted; }
{
  say Go ./go-client "$port" link.example.
  say rustls target/debug/finding "$port" link.example.
  say curl of_curl
  say Node node client.mjs "$port" link.example.
  say Python python3 client.py "$port" link.example.
  say openssl of_openssl
  say "Java's SSLSocket" java Client "$port" link.example. socket
  say "Java's HttpClient" java Client "$port" link.example. http
} >seen
expect 'a host name with a final dot: five behaviours in eight TLS clients, two of which refuse the certificate' <<'END'
Go: accepted; the server saw link.example
rustls: accepted; the server saw link.example
curl: accepted; the server saw link.example
Node: accepted; the server saw link.example.
Python: Hostname mismatch, certificate is not valid for 'link.example.'.; the handshake failed
openssl: hostname mismatch; the handshake failed
Java's SSLSocket: accepted; the server saw link.example
Java's HttpClient: java.lang.IllegalArgumentException: Server name value of host_name cannot have the trailing dot; 
END
