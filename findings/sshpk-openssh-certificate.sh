#!/usr/bin/env bash
# sshpk 1.18.0; with ssh-keygen of Debian's openssh-client 9.2p1
#
# Guess: sshpk reads the OpenSSH certificates that ssh-keygen makes: one without -V (valid for ever, the default) never expires, and the comment at
#        the end of the line may hold spaces, as it may in a key's line.
# Seen:  a certificate that is valid for ever has the date "Invalid Date" and isExpired() is true, always. A line whose comment has a space is "Not a
#        valid SSH certificate line", though the same comment is fine behind a key.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'openssh-client=1:9.2p1-*'
npm_install sshpk@1.18.0
ssh-keygen -q -t ed25519 -N '' -f authority
for comment in one 'two words'; do
  ssh-keygen -q -t ecdsa -N '' -C "$comment" -f "$comment"
  ssh-keygen -q -s authority -I id -n me -V +1d "$comment.pub" && mv "$comment-cert.pub" "$comment, a day"
  ssh-keygen -q -s authority -I id -n me "$comment.pub" && mv "$comment-cert.pub" "$comment, for ever"
done
cat >read.cjs <<'END'
const sshpk = require('sshpk');
const { readFileSync } = require('node:fs');
for (const comment of ['one', 'two words']) {
  console.log(`key, comment "${sshpk.parseKey(readFileSync(`${comment}.pub`), 'ssh').comment}": read`);
  for (const time of ['a day', 'for ever'])
    try {
      const certificate = sshpk.parseCertificate(readFileSync(`${comment}, ${time}`), 'openssh');
      const until = Number.isNaN(certificate.validUntil.getTime()) ? 'Invalid Date' : 'a date';
      console.log(`certificate, comment "${comment}", ${time}: until ${until}, isExpired() ${certificate.isExpired()}`);
    } catch (error) {
      console.log(`certificate, comment "${comment}", ${time}: ${error.message}`);
    }
}
END
node read.cjs >seen
expect 'for sshpk an OpenSSH certificate that is valid for ever has expired, and a comment of two words is none' <<'END'
key, comment "one": read
certificate, comment "one", a day: until a date, isExpired() false
certificate, comment "one", for ever: until Invalid Date, isExpired() true
key, comment "two words": read
certificate, comment "two words", a day: Failed to parse (unnamed) as a valid openssh format certificate: Not a valid SSH certificate line
certificate, comment "two words", for ever: Failed to parse (unnamed) as a valid openssh format certificate: Not a valid SSH certificate line
END
