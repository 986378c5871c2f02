#!/usr/bin/env bash
# golang.org/x/crypto 0.59.0 beside ssh-keygen of Debian's openssh-client 9.2p1, puttygen of putty-tools 0.78 and asyncssh 2.24.1
#
# Guess: the SHA-256 fingerprint of an OpenSSH certificate is one value, the one that `ssh-keygen -lf key-cert.pub` prints and sshd logs.
# Seen:  ssh-keygen, puttygen and asyncssh print the fingerprint of the key inside, so a certificate and its key have one and a renewal keeps it.
#        ssh.FingerprintSHA256 of Go's library hashes the whole certificate: another value, and another one after each renewal. A log of sshd
#        and a log of a server in Go never agree on a certificate. puttygen shows that value too, when asked for "cert-info".
. "$(dirname "$0")/lib/finding.sh"
apt_install 'openssh-client=1:9.2p1-*' 'putty-tools=0.78-*'
pip_install asyncssh==2.24.1
go_get golang.org/x/crypto@v0.59.0
ssh-keygen -q -t ed25519 -N '' -f authority
ssh-keygen -q -t ecdsa -N '' -C me -f key
ssh-keygen -q -s authority -I id -n me -z 1 key.pub && mv key-cert.pub first
ssh-keygen -q -s authority -I id -n me -z 2 key.pub && mv key-cert.pub renewed
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
)

func main() {
	text, _ := os.ReadFile(os.Args[1])
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		panic(err)
	}
	fmt.Println(ssh.FingerprintSHA256(key))
}
END
go build -o fingerprint main.go
of_key=$(ssh-keygen -lf key.pub | cut -d' ' -f2)
compare() { if [ "$3" = "$of_key" ]; then echo "$1, $2: as the key"; else echo "$1, $2: another one"; fi; }
{
  for name in first renewed; do
    compare ssh-keygen $name "$(ssh-keygen -lf $name | cut -d' ' -f2)"
    compare puttygen $name "$(puttygen -O fingerprint $name | grep -o 'SHA256:.*')"
    compare asyncssh $name "$(venv/bin/python -c 'import asyncssh, sys; print(asyncssh.read_certificate(sys.argv[1]).key.get_fingerprint())' $name)"
    compare Go $name "$(./fingerprint $name)"
    [ "$(puttygen -O cert-info $name | grep 'Fingerprint including' | grep -o 'SHA256:.*')" = "$(./fingerprint $name)" ] && echo "puttygen cert-info, $name: as Go"
  done
  [ "$(./fingerprint first)" != "$(./fingerprint renewed)" ] && echo 'Go: first and renewed differ'
} >seen
expect 'in Go an SSH certificate has another fingerprint than in OpenSSH' <<'END'
ssh-keygen, first: as the key
puttygen, first: as the key
asyncssh, first: as the key
Go, first: another one
puttygen cert-info, first: as Go
ssh-keygen, renewed: as the key
puttygen, renewed: as the key
asyncssh, renewed: as the key
Go, renewed: another one
puttygen cert-info, renewed: as Go
Go: first and renewed differ
END
