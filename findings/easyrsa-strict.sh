#!/usr/bin/env bash
# easy-rsa 3.1.0 of Debian 12; read by OpenSSL 3.0 with -x509_strict, Python's ssl with VERIFY_X509_STRICT (its default since 3.13), cryptography 50.0.2
#
# Guess: an authority made with easy-rsa, as VPN and database guides have it, signs certificates that a default TLS client takes once it trusts the root.
# Seen:  easy-rsa leaves basicConstraints (and keyUsage) of the root non-critical, against RFC 5280 §4.2.1.9. OpenSSL's default looks past it; its strict
#        mode does not ("Basic Constraints of CA cert not marked critical"), and ssl.create_default_context() of Python 3.13 and later turns that mode on,
#        so a Python upgrade ends all connections to servers below such a root. cryptography's verifier refuses as well.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'easy-rsa=3.1.0-*' 'openssl=3.0.*'
pip_install cryptography==50.0.2
export EASYRSA_PKI="$work/pki" EASYRSA_BATCH=1 EASYRSA_ALGO=ec EASYRSA_CURVE=prime256v1
easyrsa=/usr/share/easy-rsa/easyrsa
{
  $easyrsa init-pki
  EASYRSA_REQ_CN=Root $easyrsa build-ca nopass
  $easyrsa --subject-alt-name=DNS:node.example build-server-full node nopass
} >easyrsa.log 2>&1
openssl x509 -in pki/issued/node.crt -out leaf.pem
cat >connect.py <<'END'
import ssl, sys
strict = sys.argv[1] == "strict"
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("leaf.pem", "pki/private/node.key")
client = ssl.create_default_context(cafile="pki/ca.crt")
client.verify_flags &= ~ssl.VERIFY_X509_STRICT
if strict:
    client.verify_flags |= ssl.VERIFY_X509_STRICT
a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
ends = client.wrap_bio(a, b, server_hostname="node.example"), server.wrap_bio(c, d, server_side=True)
try:
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            c.write(b.read())
            a.write(d.read())
    print("connected")
except ssl.SSLCertVerificationError as error:
    print(error.verify_message)
END
cat >verify.py <<'END'
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
load = lambda name: x509.load_pem_x509_certificate(open(name, "rb").read())
try:
    PolicyBuilder().store(Store([load("pki/ca.crt")])).build_server_verifier(x509.DNSName("node.example")).verify(load("leaf.pem"), [])
    print("accepts")
except Exception as error:
    print(str(error).removeprefix("validation failed: ").split(" (encountered")[0])
END
{
  openssl x509 -in pki/ca.crt -noout -ext basicConstraints,keyUsage
  echo "openssl verify: $(openssl verify -CAfile pki/ca.crt leaf.pem 2>&1 | tail -1)"
  echo "openssl verify -x509_strict: $(openssl verify -x509_strict -CAfile pki/ca.crt leaf.pem 2>&1 | grep -o 'lookup: .*')"
  echo "Python's ssl, not strict: $(python3 connect.py lax)"
  echo "Python's ssl, strict: $(python3 connect.py strict)"
  echo "cryptography: $(venv/bin/python verify.py)"
} >seen
expect 'an authority of easy-rsa is refused by strict verification, which Python has by default since 3.13' <<'END'
X509v3 Basic Constraints: 
    CA:TRUE
X509v3 Key Usage: 
    Certificate Sign, CRL Sign
openssl verify: leaf.pem: OK
openssl verify -x509_strict: lookup: Basic Constraints of CA cert not marked critical
Python's ssl, not strict: connected
Python's ssl, strict: Basic Constraints of CA cert not marked critical
cryptography: candidates exhausted: invalid extension: 2.5.29.19: Certificate extension has incorrect criticality
END
