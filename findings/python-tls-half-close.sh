#!/usr/bin/env bash
# ssl of Python 3.11, Go 1.26 and Java 17 as TLS 1.3 clients; Node 20 as server with allowHalfOpen
#
# Guess: a client that has sent its request says so (close_notify, RFC 8446 §6.1 closes one direction alone) and then reads the answer; Python's
#        SSLSocket.shutdown(SHUT_WR) is the way, as with a plain socket, or unwrap().
# Seen:  Go's CloseWrite and Java's shutdownOutput do. Python cannot: shutdown(SHUT_WR) drops the TLS state, so that recv() afterwards returns the encrypted records
#        of the answer as if they were data (they begin with 17 03 03); and unwrap() fails with APPLICATION_DATA_AFTER_CLOSE_NOTIFY, the answer lost.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
apt_install 'openssl=3.0.*'
certificate root /CN=Root "$usual_ca"
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1" root
cat >server.mjs <<'END'
import { createServer } from 'node:tls';
import { readFileSync } from 'node:fs';
const [key, cert] = ['server.key', 'server.pem'].map(name => readFileSync(name));
const server = createServer({ key, cert, allowHalfOpen: true }, socket => {
  let text = '';
  socket.on('error', () => {});
  socket.on('data', data => (text += data));
  socket.on('end', () => setTimeout(() => socket.end(`answer to ${text}`), 200));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
END
cat >client.py <<'END'
import socket, ssl, sys
def connect():
    context = ssl.create_default_context(cafile="root.pem")
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname="localhost")
    # The session tickets come first.
    connection.settimeout(0.3)
    try:
        connection.recv(1)
    except TimeoutError:
        pass
    connection.settimeout(5)
    connection.sendall(b"question")
    return connection
connection = connect()
connection.shutdown(socket.SHUT_WR)
got = connection.recv(100)
print("Python, shutdown(SHUT_WR): recv gives", "the answer" if got.startswith(b"answer") else f"bytes that begin with {got[:3].hex(' ')}")
try:
    print("Python, unwrap():", connect().unwrap().recv(100))
except ssl.SSLError as error:
    print("Python, unwrap():", error.reason)
END
cat >client.go <<'END'
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
)

func main() {
	text, _ := os.ReadFile("root.pem")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{RootCAs: roots})
	if err != nil {
		panic(err)
	}
	connection.Write([]byte("question"))
	connection.CloseWrite()
	got, err := io.ReadAll(connection)
	fmt.Printf("Go, CloseWrite(): %s, %v\n", got, err)
}
END
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
    var socket = context.getSocketFactory().createSocket("127.0.0.1", Integer.parseInt(arguments[0]));
    socket.getOutputStream().write("question".getBytes());
    socket.shutdownOutput();
    System.out.println("Java, shutdownOutput(): " + new String(socket.getInputStream().readAllBytes()));
  }
}
END
node server.mjs >port &
started+=("$!")
while [ ! -s port ]; do sleep 0.1; done
{ go run client.go "$(cat port)"; java Client.java "$(cat port)"; python3 client.py "$(cat port)"; } >seen
expect "after shutdown(SHUT_WR) Python's TLS socket reads encrypted records as data" <<'END'
Go, CloseWrite(): answer to question, <nil>
Java, shutdownOutput(): answer to question
Python, shutdown(SHUT_WR): recv gives bytes that begin with 17 03 03
Python, unwrap(): APPLICATION_DATA_AFTER_CLOSE_NOTIFY
END
