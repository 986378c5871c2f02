#!/usr/bin/env bash
# Node 20 (OpenSSL 3.0) as server; Node 20, Java 17 and Go 1.26 as clients, TLS 1.3
#
# Guess: a server may trust as many client authorities as it likes: `ca` of tls.createServer takes the file, so handshakes work, with some more bytes.
# Seen:  the names of all authorities go into each CertificateRequest. From 32 KiB of names on (some 350 authorities of usual names) Java clients give up ("The
#        size of the handshake message exceeds the maximum allowed size (32768)"). From 64 KiB on the server itself ends EVERY handshake with the alert
#        internal_error, with clients that have no certificate as well; createServer and listen had no objection. `requestCert` with the same file by
#        setting `ca` to nothing and verifying in the application works.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
pip_install cryptography==50.0.2
certificate root /CN=Root "$usual_ca"
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1" root
cat >authorities.py <<'END'
import datetime, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
key = ec.generate_private_key(ec.SECP256R1())
text = b""
for number in range(int(sys.argv[1])):
    parts = ((NameOID.COUNTRY_NAME, "XX"), (NameOID.ORGANIZATION_NAME, "An organisation of a usual length"), (NameOID.COMMON_NAME, f"Root certification authority {number:04}"))
    name = x509.Name([x509.NameAttribute(*part) for part in parts])
    start = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder(name, name, key.public_key(), number + 1, start, start.replace(year=2036))
    text += made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
open("authorities.pem", "wb").write(text)
END
cat >server.mjs <<'END'
import { createServer } from 'node:tls';
import { readFileSync, writeFileSync } from 'node:fs';
const [key, cert, ca] = ['server.key', 'server.pem', 'authorities.pem'].map(name => readFileSync(name));
const server = createServer({ key, cert, ca, requestCert: true, rejectUnauthorized: false }, socket => {
  socket.on('error', () => {});
  socket.end('hello');
});
server.on('tlsClientError', () => {});
server.listen(0, '127.0.0.1', () => writeFileSync('port', String(server.address().port)));
END
cat >client.mjs <<'END'
import { connect } from 'node:tls';
import { readFileSync } from 'node:fs';
const socket = connect({ host: '127.0.0.1', port: Number(process.argv[2]), ca: readFileSync('root.pem') });
socket.on('data', () => console.log('connected'));
socket.on('error', error => console.log(error.code));
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
	connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{RootCAs: roots})
	if err == nil {
		_, err = connection.Read(make([]byte, 9))
	}
	if err == nil {
		fmt.Println("connected")
	} else {
		fmt.Println(err)
	}
}
END
go build -o go-client client.go
cat >Client.java <<'END'
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.*;

class Client {
  public static void main(String[] arguments) throws Exception {
    var roots = KeyStore.getInstance("PKCS12");
    roots.load(null, null);
    roots.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream("root.pem")));
    var trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(roots);
    var context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    try {
      context.getSocketFactory().createSocket("127.0.0.1", Integer.parseInt(arguments[0])).getInputStream().read();
      System.out.println("connected");
    } catch (SSLException error) {
      System.out.println(error.getMessage());
    }
  }
}
END
javac Client.java
for number in 150 400 700; do
  venv/bin/python authorities.py $number
  rm -f port
  node server.mjs &
  id=$!
  started+=("$id")
  while [ ! -s port ]; do sleep 0.1; done
  port=$(cat port)
  echo "$number authorities"
  echo "  Node: $(node client.mjs "$port")"
  echo "  Go: $(./go-client "$port")"
  echo "  Java: $(java Client "$port")"
  kill $id
done >seen 2>/dev/null
expect 'a long list of client authorities ends handshakes: Java from 32 KiB on, the server of OpenSSL for everybody from 64 KiB on' <<'END'
150 authorities
  Node: connected
  Go: connected
  Java: connected
400 authorities
  Node: connected
  Go: connected
  Java: The size of the handshake message (42047) exceeds the maximum allowed size (32768)
700 authorities
  Node: ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR
  Go: remote error: tls: internal error
  Java: Received fatal alert: internal_error
END
