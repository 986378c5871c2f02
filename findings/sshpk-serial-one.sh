#!/usr/bin/env bash
# sshpk 1.18.0; beside OpenSSL 3.0 of Debian 12
#
# Guess: createSelfSignedCertificate and createCertificate of sshpk give each certificate a random serial number (RFC 5280 §4.1.2.2: unique for
#        an issuer), and a self-signed certificate for a host is a leaf.
# Seen:  every certificate has serial number 1: two leaves of one issuer cannot be told apart by issuer and serial, so a revocation list that names
#        one of them names them all. A self-signed certificate for a host is a CA with keyCertSign and cRLSign. `serial` in the options mends the first.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'openssl=3.0.*'
npm_install sshpk@1.18.0
cat >make.cjs <<'END'
const sshpk = require('sshpk');
const { writeFileSync } = require('node:fs');
const host = name => sshpk.identityForHost(name);
const [issuerKey, a, b] = [1, 2, 3].map(() => sshpk.generatePrivateKey('ecdsa', { curve: 'nistp256' }));
const issuer = sshpk.createSelfSignedCertificate(host('issuer.example'), issuerKey);
const leafA = sshpk.createCertificate(host('a.example'), a.toPublic(), host('issuer.example'), issuerKey);
const leafB = sshpk.createCertificate(host('b.example'), b.toPublic(), host('issuer.example'), issuerKey);
for (const [name, certificate] of Object.entries({ issuer, leafA, leafB })) writeFileSync(name, certificate.toString('pem'));
END
node make.cjs
{
  for name in issuer leafA leafB; do openssl x509 -in $name -noout -subject -serial; done
  openssl x509 -in issuer -noout -ext basicConstraints,keyUsage
} >seen
expect 'every certificate of sshpk has serial number 1, and a self-signed one for a host is a CA' <<'END'
subject=CN = issuer.example
serial=01
subject=CN = a.example
serial=01
subject=CN = b.example
serial=01
X509v3 Basic Constraints: critical
    CA:TRUE
X509v3 Key Usage: critical
    Digital Signature, Key Agreement, Certificate Sign, CRL Sign
END
