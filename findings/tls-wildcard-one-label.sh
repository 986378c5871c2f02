#!/usr/bin/env bash
# TLS clients of Node 20, Python 3.11, Go 1.26, Java 17, rustls 0.23.46, curl 7.88 and openssl s_client 3.0 of Debian 12
#
# Guess: a certificate for *.internal is good for link.internal, as *.example.org is for link.example.org: one star for one label (RFC 6125 §6.4.3, RFC 9525 §6.3).
# Seen:  for Go and Java. rustls, Node, curl, Python and openssl want two labels after the star and refuse: "Hostname mismatch". With *.a.internal all accept
#        link.a.internal. So a private zone of one label (.internal, .lan, .local, .svc) has no wildcard certificate, or works in Go's half of a fleet alone.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
. "$here/lib/tls-clients.sh"
install_clients
certificate root /CN=Root "$usual_ca"
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:*.internal,DNS:*.a.internal" root
start_server
{
  ask_all link.internal
  ask_all link.a.internal
} >seen
expect 'a certificate for *.internal is good for Go and Java, and for nobody else' <<'END'
Go: accepted; the server saw link.internal
rustls: invalid peer certificate: certificate not valid for name "link.internal"; certificate is only valid for DnsName("*.inter; the handshake failed
curl: refused; the server saw link.internal
Node: Hostname/IP does not match certificate's altnames: Host: link.internal. is not in the cert's altnames: DNS:*.internal, D; the handshake failed
Python: Hostname mismatch, certificate is not valid for 'link.internal'.; the handshake failed
openssl: hostname mismatch; the handshake failed
Java's SSLSocket: accepted; the server saw link.internal
Go: accepted; the server saw link.a.internal
rustls: accepted; the server saw link.a.internal
curl: accepted; the server saw link.a.internal
Node: accepted; the server saw link.a.internal
Python: accepted; the server saw link.a.internal
openssl: accepted; the server saw link.a.internal
Java's SSLSocket: accepted; the server saw link.a.internal
END
