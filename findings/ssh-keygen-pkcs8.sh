#!/usr/bin/env bash
# ssh-keygen of Debian's openssh-client 9.2p1; read by golang.org/x/crypto 0.59.0, paramiko 5.1.0, puttygen of putty-tools 0.78, asyncssh 2.24.1, cryptography 50.0.2
#
# Guess: `ssh-keygen -p -m PKCS8` turns any key file into PKCS#8, or says that it cannot; SSH libraries read what ssh-keygen writes.
# Seen:  an Ed25519 key stays in OpenSSH's own format: exit status 0 and "Your identification has been saved", so that OpenSSL and Node fail later. And
#        the PKCS#8 of an ECDSA key is read by neither paramiko ("not a valid EC private key file") nor puttygen ("unrecognised key type"), nor by
#        Go once it has a passphrase ("ssh: not an encrypted key"). asyncssh and cryptography read all.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'openssh-client=1:9.2p1-*' 'putty-tools=0.78-*'
pip_install paramiko==5.1.0 asyncssh==2.24.1 cryptography==50.0.2
go_get golang.org/x/crypto@v0.59.0
for kind in ecdsa ed25519; do
  for passphrase in '' secret; do
    name=$kind${passphrase:+-encrypted}
    ssh-keygen -q -t $kind -N '' -f $name
    status=0
    ssh-keygen -p -P '' -N "$passphrase" -m PKCS8 -f $name >said 2>&1 || status=$?
    echo "$name: status $status, $(tail -1 said), $(head -1 $name)"
  done
done >seen
cat >read.py <<'END'
import asyncssh, paramiko
from cryptography.hazmat.primitives.serialization import load_pem_private_key
for name, passphrase in (("ecdsa", None), ("ecdsa-encrypted", "secret")):
    secret = passphrase and passphrase.encode()
    for library, read in (
        ("asyncssh", lambda: asyncssh.read_private_key(name, passphrase)),
        ("cryptography", lambda: load_pem_private_key(open(name, "rb").read(), secret)),
        ("paramiko", lambda: paramiko.PKey.from_path(name, secret)),
    ):
        try:
            read()
            print(f"{library}, {name}: read")
        except Exception as error:
            print(f"{library}, {name}: {error}")
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
)

func main() {
	text, _ := os.ReadFile("ecdsa")
	_, err := ssh.ParseRawPrivateKey(text)
	fmt.Println("Go, ecdsa:", err)
	text, _ = os.ReadFile("ecdsa-encrypted")
	_, err = ssh.ParseRawPrivateKeyWithPassphrase(text, []byte("secret"))
	fmt.Println("Go, ecdsa-encrypted:", err)
}
END
{
  venv/bin/python read.py
  go run main.go
  echo "puttygen, ecdsa: $(puttygen ecdsa -O public-openssh -o out 2>&1 | sed 's/.*: //')"
} >>seen
expect 'ssh-keygen -m PKCS8 leaves Ed25519 keys as they are without a word, and SSH libraries cannot read the rest' <<'END'
ecdsa: status 0, Your identification has been saved with the new passphrase., -----BEGIN PRIVATE KEY-----
ecdsa-encrypted: status 0, Your identification has been saved with the new passphrase., -----BEGIN ENCRYPTED PRIVATE KEY-----
ed25519: status 0, Your identification has been saved with the new passphrase., -----BEGIN OPENSSH PRIVATE KEY-----
ed25519-encrypted: status 0, Your identification has been saved with the new passphrase., -----BEGIN OPENSSH PRIVATE KEY-----
asyncssh, ecdsa: read
cryptography, ecdsa: read
paramiko, ecdsa: not a valid EC private key file
asyncssh, ecdsa-encrypted: read
cryptography, ecdsa-encrypted: read
paramiko, ecdsa-encrypted: not a valid EC private key file
Go, ecdsa: <nil>
Go, ecdsa-encrypted: ssh: not an encrypted key
puttygen, ecdsa: unrecognised key type
END
