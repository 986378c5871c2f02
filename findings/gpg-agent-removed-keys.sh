#!/usr/bin/env bash
# gpg-agent 2.2.40 of Debian 12 as SSH agent, with ssh-add of openssh-client 9.2p1
#
# Guess: gpg-agent with enable-ssh-support is an SSH agent: `ssh-add -d` and `ssh-add -D` take keys out, `ssh-add -t 1` for a second, and a key is in memory alone.
# Seen:  ssh-add says "Identity removed", "All identities removed", "Lifetime set to 1 seconds", each with exit status 0, and every key is still listed and still signs.
#        Each is on the disk as well and is there again after the agent has been stopped and started.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'gpg-agent=2.2.40-*' 'openssh-client=1:9.2p1-*' 'gpgconf=2.2.40-*'
export GNUPGHOME="$work/home"
mkdir -m 700 "$GNUPGHOME"
# A pinentry that answers each question for a passphrase with an empty one.
cat >pinentry <<'END'
#!/usr/bin/env bash
echo 'OK ready'
while read -r line; do
  [[ $line == GETPIN* ]] && echo 'D '
  echo OK
done
END
chmod +x pinentry
printf 'pinentry-program %s/pinentry\nenable-ssh-support\n' "$work" >"$GNUPGHOME/gpg-agent.conf"
start_agent() { gpg-connect-agent /bye >/dev/null 2>&1; }
stop_agent() { gpgconf --kill gpg-agent; }
start_agent
trap 'stop_agent; finish' EXIT
SSH_AUTH_SOCK=$(gpgconf --list-dirs agent-ssh-socket)
export SSH_AUTH_SOCK
ssh-keygen -q -t ecdsa -N '' -C one -f one
ssh-keygen -q -t ecdsa -N '' -C two -f two
listed() { ssh-add -l | grep -c ECDSA || true; }
said() { "$@" 2>&1 && echo "(status $?)"; }
{
  ssh-add one two 2>/dev/null
  echo "added: $(listed) listed"
  echo "ssh-add -d: $(said ssh-add -d one | tr '\n' ' '); $(listed) listed"
  echo "ssh-add -D: $(said ssh-add -D | tr '\n' ' '); $(listed) listed"
  echo "ssh-add -t 1: $(said ssh-add -t 1 one | tail -2 | tr '\n' ' '); after 2 s: $(sleep 2; listed) listed"
  echo text | ssh-keygen -q -Y sign -n file -f one.pub >signature 2>/dev/null && echo 'the removed key signs'
  stop_agent
  start_agent
  echo "started again: $(listed) listed"
} >seen
expect 'keys that ssh-add removes from gpg-agent stay there and sign' <<'END'
added: 2 listed
ssh-add -d: Identity removed: one ECDSA (one) (status 0) ; 2 listed
ssh-add -D: All identities removed. (status 0) ; 2 listed
ssh-add -t 1: Lifetime set to 1 seconds (status 0) ; after 2 s: 2 listed
the removed key signs
started again: 2 listed
END
