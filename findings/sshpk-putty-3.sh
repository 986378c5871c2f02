#!/usr/bin/env bash
# sshpk 1.18.0; puttygen of Debian 12's putty-tools 0.78
#
# Guess: sshpk, asked to find out the format by itself ('auto', the default), reads what puttygen saves, since it has a reader for PuTTY's format.
# Seen:  puttygen has written version 3 of the format since 0.75. The detection of sshpk knows version 2 alone: "Failed to auto-detect format of key", as if it were no
#        key at all. Its reader can do it: with the format named as 'putty' the same file is read.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'putty-tools=0.78-*' 'openssh-client=1:9.2p1-*'
npm_install sshpk@1.18.0
ssh-keygen -q -t ecdsa -N '' -f key
puttygen key -O private -o default.ppk
puttygen key -O private -o two.ppk --ppk-param version=2
cat >read.cjs <<'END'
const sshpk = require('sshpk');
const { readFileSync } = require('node:fs');
for (const name of ['default', 'two'])
  for (const format of ['auto', 'putty'])
    try {
      console.log(`${name}, ${format}: ${sshpk.parsePrivateKey(readFileSync(`${name}.ppk`), format).type}`);
    } catch (error) {
      console.log(`${name}, ${format}: ${error.message}`);
    }
END
{ head -1 default.ppk; head -1 two.ppk; node read.cjs; } >seen
expect 'sshpk can read the keys that puttygen writes by default, but does not recognise them' <<'END'
PuTTY-User-Key-File-3: ecdsa-sha2-nistp256
PuTTY-User-Key-File-2: ecdsa-sha2-nistp256
default, auto: Failed to parse (unnamed) as a valid auto format key: Failed to auto-detect format of key
default, putty: ecdsa
two, auto: ecdsa
two, putty: ecdsa
END
