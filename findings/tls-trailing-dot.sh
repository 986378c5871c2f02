#!/usr/bin/env bash
# TLS clients of Node 20, Python 3.11, Go 1.26, Java 17, rustls 0.23.46, curl 7.88 and openssl s_client 3.0 of Debian 12
#
# Guess: a host name with a final dot ("link.example.", an absolute name, as Kubernetes manifests write it to save look-ups) is the same host: clients send
#        the SNI without the dot (RFC 6066 §3), and compare the certificate without it.
# Seen:  five behaviours. Go, rustls and curl do that. Node sends the dot, and accepts the certificate. Python and openssl compare with the dot: "Hostname
#        mismatch". Java's SSLSocket sends no SNI at all and accepts; Java's HttpClient throws IllegalArgumentException before it sends a byte.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
. "$here/lib/tls-clients.sh"
install_clients
certificate root /CN=Root "$usual_ca"
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:link.example" root
start_server
ask_all link.example. http >seen
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
