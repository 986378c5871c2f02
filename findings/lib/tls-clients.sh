# shellcheck shell=bash
# Sourced by the scripts about host names: eight TLS clients that connect to a server on loopback and take it for the host that
# is asked for, and a server that says which name it saw.

# install_clients: those of Node, Python, Go and Java as the machine has them, curl and openssl of Debian 12, rustls
install_clients() {
  apt_install 'openssl=3.0.*' 'curl=7.88.1-*'
  cargo_get rustls@=0.23.46+ring,std
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
}

# start_server: with server.key and server.pem
start_server() {
  rm -f port
  node server.mjs >server.log &
  started+=("$!")
  while [ ! -s port ]; do sleep 0.1; done
  port=$(cat port)
}

# ask_all HOST [http]: Java's HttpClient, which looks names up, with http alone
ask_all() {
  local host=$1
  of_openssl() {
    local said
    said=$(openssl s_client -connect "127.0.0.1:$port" -servername "$host" -CAfile root.pem -verify_hostname "$host" -verify_return_error 2>&1)
    grep -a -m1 -o 'hostname mismatch' <<<"$said" || echo accepted
  }
  # curl trims a final dot before it looks at --resolve.
  of_curl() { curl --silent --resolve "$host:$port:127.0.0.1" --resolve "${host%.}:$port:127.0.0.1" --cacert root.pem "https://$host:$port/" && echo accepted || echo refused; }
  say() {
    local name=$1
    shift
    : >server.log
    echo "$name: $("$@" </dev/null 2>/dev/null | tail -1 | sed "s/:$port//" | cut -c1-120); $(sleep 0.5; tr -d '\0' <server.log | tail -1)"
  }
  say Go ./go-client "$port" "$host"
  say rustls target/debug/finding "$port" "$host"
  say curl of_curl
  say Node node client.mjs "$port" "$host"
  say Python python3 client.py "$port" "$host"
  say openssl of_openssl
  say "Java's SSLSocket" java Client "$port" "$host" socket
  [ "${2:-}" != http ] || say "Java's HttpClient" java Client "$port" "$host" http
}
