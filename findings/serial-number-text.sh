#!/usr/bin/env bash
# Node 20, OpenSSL 3.0 and GnuTLS 3.7.9 of Debian 12, Java 17 (keytool), node-forge 1.4.3, sshpk 1.18.0
#
# Guess: the serial number of a certificate as hexadecimal text is the same from every tool, but for capitals and colons, and can be compared by it.
# Seen:  half of all numbers begin with a bit that is set; GnuTLS, node-forge and sshpk then write "00" before them, the others do not. One in sixteen begins with a digit 0,
#        which keytool leaves out, the others not. A deny list by serial text misses what another tool wrote; compare the numbers.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'openssl=3.0.*' 'gnutls-bin=3.7.9-*'
npm_install node-forge@1.4.3 sshpk@1.18.0
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem 2>/dev/null
for serial in 0xd0eb10bf 0x0a0b0c0d; do
  openssl req -x509 -new -key key.pem -subj /CN=a -days 9 -set_serial $serial -out $serial.pem 2>/dev/null
done
cat >read.cjs <<'END'
const { readFileSync } = require('node:fs');
const { X509Certificate } = require('node:crypto');
const forge = require('node-forge');
const sshpk = require('sshpk');
const text = readFileSync(process.argv[2], 'utf8');
console.log(`  Node: ${new X509Certificate(text).serialNumber}`);
console.log(`  node-forge: ${forge.pki.certificateFromPem(text).serialNumber}`);
console.log(`  sshpk: ${sshpk.parseCertificate(text, 'pem').serial.toString('hex')}`);
END
for serial in 0xd0eb10bf 0x0a0b0c0d; do
  echo "$serial"
  echo "  openssl: $(openssl x509 -in $serial.pem -noout -serial | cut -d= -f2)"
  node read.cjs $serial.pem
  echo "  certtool: $(certtool -i --infile $serial.pem | sed -n 's/.*Serial Number (hex): //p')"
  echo "  keytool: $(keytool -printcert -file $serial.pem 2>/dev/null | sed -n 's/.*[Ss]erial number: //p')"
done >seen
expect 'the serial number of a certificate has three spellings' <<'END'
0xd0eb10bf
  openssl: D0EB10BF
  Node: D0EB10BF
  node-forge: 00d0eb10bf
  sshpk: 00d0eb10bf
  certtool: 00d0eb10bf
  keytool: d0eb10bf
0x0a0b0c0d
  openssl: 0A0B0C0D
  Node: 0A0B0C0D
  node-forge: 0a0b0c0d
  sshpk: 0a0b0c0d
  certtool: 0a0b0c0d
  keytool: a0b0c0d
END
