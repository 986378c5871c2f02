#!/usr/bin/env bash
# TLS servers: Python 3.11, HAProxy 2.6.12 and openssl s_server 3.0 of Debian 12, Go 1.26, Node 20
#
# Guess: a server that is set to one ALPN protocol ends the handshake of a client that offers only others: RFC 7301 §3.2 says that it SHALL send
#        no_application_protocol.
# Seen:  Node, openssl s_server and mostly Go do. Python's ssl and HAProxy finish the handshake without a protocol, and the two ends then speak
#        different ones; Go does the same for a client that offers http/1.1 alone, when the server is set to h2. So a client of a protocol of its own must look
#        at what was agreed: a handshake that succeeded says nothing.
. "$(dirname "$0")/lib.sh"
. "$here/x509-verifiers.sh"
apt_install 'openssl=3.0.*' 'haproxy=2.6.12-*'
certificate root /CN=Root "$usual_ca"
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1" root
cat server.pem server.key >both.pem
cat >server.mjs <<'END'
import { createServer } from 'node:tls';
import { readFileSync } from 'node:fs';
const [key, cert] = ['server.key', 'server.pem'].map(name => readFileSync(name));
const server = createServer({ key, cert, ALPNProtocols: ['own/1'] }, socket => socket.on('error', () => {}).end());
server.on('tlsClientError', () => {}).listen(0, '127.0.0.1', () => console.log(server.address().port));
END
cat >server.py <<'END'
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
context.set_alpn_protocols(["own/1"])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    raw, _ = listener.accept()
    try:
        context.wrap_socket(raw, server_side=True).close()
    except OSError:
        pass
END
cat >server.go <<'END'
package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
)

func main() {
	pair, _ := tls.LoadX509KeyPair("server.pem", "server.key")
	listener, _ := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: os.Args[1:]})
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, _ := listener.Accept()
		connection.(*tls.Conn).Handshake()
		connection.Close()
	}
}
END
go build -o go-server server.go
# ask NAME PORT OFFER …
ask() {
  local name=$1 port=$2 offer said
  shift 2
  for _ in $(seq 100); do (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done
  for offer in "$@"; do
    said=$(openssl s_client -connect "127.0.0.1:$port" -alpn "$offer" -CAfile root.pem </dev/null 2>&1 || true)
    if grep -q 'no application protocol' <<<"$said"; then
      echo "$name, offered $offer: no_application_protocol"
    else
      echo "$name, offered $offer: $(grep -m1 ALPN <<<"$said")"
    fi
  done
}
# start NAME COMMAND …: its first line is its port
start() {
  local name=$1
  shift
  "$@" >"$name.port" 2>/dev/null &
  started+=("$!")
  while [ ! -s "$name.port" ]; do sleep 0.1; done
}
start node node server.mjs
start python python3 server.py
start go ./go-server own/1
start go-h2 ./go-server h2
cat >haproxy.cfg <<'END'
defaults
  mode tcp
  timeout client 2s
  timeout connect 2s
  timeout server 2s
frontend own
  bind fd@${LISTENER} ssl crt both.pem alpn own/1
  tcp-request content reject
END
cat >haproxy.py <<'END'
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
listener.set_inheritable(True)
print(listener.getsockname()[1], flush=True)
os.environ["LISTENER"] = str(listener.fileno())
os.execvp("haproxy", ["haproxy", "-f", "haproxy.cfg"])
END
start haproxy python3 haproxy.py
openssl s_server -accept 127.0.0.1:0 -cert server.pem -key server.key -alpn own/1 </dev/zero >openssl.log 2>&1 &
started+=("$!")
until grep -q '^ACCEPT' openssl.log; do sleep 0.1; done
{
  ask Node "$(cat node.port)" own/1 other/1 http/1.1
  ask openssl "$(grep -a -m1 -oE '[0-9]+$' openssl.log)" own/1 other/1 http/1.1
  ask Go "$(cat go.port)" own/1 other/1 http/1.1
  ask 'Go set to h2' "$(cat go-h2.port)" other/1 http/1.1
  ask Python "$(cat python.port)" own/1 other/1 http/1.1
  ask HAProxy "$(head -1 haproxy.port)" own/1 other/1 http/1.1
} >seen
expect 'Python and HAProxy finish the handshake of a client that offers none of their ALPN protocols' <<'END'
Node, offered own/1: ALPN protocol: own/1
Node, offered other/1: no_application_protocol
Node, offered http/1.1: no_application_protocol
openssl, offered own/1: ALPN protocol: own/1
openssl, offered other/1: no_application_protocol
openssl, offered http/1.1: no_application_protocol
Go, offered own/1: ALPN protocol: own/1
Go, offered other/1: no_application_protocol
Go, offered http/1.1: no_application_protocol
Go set to h2, offered other/1: no_application_protocol
Go set to h2, offered http/1.1: No ALPN negotiated
Python, offered own/1: ALPN protocol: own/1
Python, offered other/1: No ALPN negotiated
Python, offered http/1.1: No ALPN negotiated
HAProxy, offered own/1: ALPN protocol: own/1
HAProxy, offered other/1: No ALPN negotiated
HAProxy, offered http/1.1: No ALPN negotiated
END
