#!/usr/bin/env bash
# TLS clients of Node 20, Python 3.11, Go 1.26, Java 17, rustls 0.23.46, curl 7.88 and openssl s_client 3.0 of Debian 12; cryptography 50.0.2
#
# Guess: a host with an underscore, as container tools name services (my_link), is a name like another for TLS: where it resolves, a certificate that has it is taken.
# Seen:  by all but Java and cryptography. Java's HttpClient says "unsupported URI" before it connects; its SSLSocket connects, sends no SNI and refuses the certificate; and
#        cryptography's verifier calls the name an "invalid domain name". Call the service my-link before the first Java client comes.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
. "$here/lib/tls-clients.sh"
install_clients
pip_install cryptography==50.0.2
certificate root /CN=Root "$usual_ca"
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:my_link" root
start_server
{
  ask_all my_link http
  venv/bin/python -c '
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
load = lambda name: x509.load_pem_x509_certificate(open(name, "rb").read())
try:
    PolicyBuilder().store(Store([load("root.pem")])).build_server_verifier(x509.DNSName("my_link")).verify(load("server.pem"), [])
    print("cryptography: accepted")
except Exception as error:
    print("cryptography:", error)'
} >seen
expect 'Java connects to no host with an underscore in its name' <<'END'
Go: accepted; the server saw my_link
rustls: accepted; the server saw my_link
curl: accepted; the server saw my_link
Node: accepted; the server saw my_link
Python: accepted; the server saw my_link
openssl: accepted; the server saw my_link
Java's SSLSocket: javax.net.ssl.SSLHandshakeException: Illegal given domain name: my_link; the handshake failed
Java's HttpClient: java.lang.IllegalArgumentException: unsupported URI https://my_link/; 
cryptography: invalid domain name
END
