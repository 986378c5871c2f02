#!/usr/bin/env bash
# HAProxy 2.6.12 of Debian 12 (PROXY protocol 1 and 2); address lists of Go 1.26 (net/netip), Python 3.11 (ipaddress) and Node 20 (net.BlockList)
#
# Guess: behind HAProxy with `bind :::9092 v4v6` and send-proxy, a client that came over IPv4 is announced as TCP4 with its IPv4 address.
# Seen:  it is announced as TCP6 ::ffff:127.0.0.1, in version 2 as an IPv6 address of 16 bytes. A list with 127.0.0.0/8 does not hold it for Go's netip.Prefix and Python's
#        ip_network, so that IPv4 rules stop working on the day the listener becomes dual-stack; Node's BlockList knows both forms. With a listener of its own
#        for IPv4 the header says TCP4.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'haproxy=2.6.12-*'
cat >listen.py <<'END'
import os, socket, sys
def listener(family, address):
    made = socket.socket(family)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((address, 0))
    made.listen()
    made.set_inheritable(True)
    return made
# An IPv6 socket that takes IPv4 on loopback alone, as one on :: would on all addresses.
names = {"DUAL1": socket.AF_INET6, "DUAL2": socket.AF_INET6, "FOUR1": socket.AF_INET, "FOUR2": socket.AF_INET}
made = {name: listener(family, "::ffff:127.0.0.1" if family == socket.AF_INET6 else "127.0.0.1") for name, family in names.items()}
for name, each in made.items():
    os.environ[name] = str(each.fileno())
    print(name, each.getsockname()[1], flush=True)
os.execvp("haproxy", ["haproxy", "-f", "haproxy.cfg"])
END
cat >behind.py <<'END'
import socket
made = socket.create_server(("127.0.0.1", 0))
print(made.getsockname()[1], flush=True)
while True:
    connection, _ = made.accept()
    head = connection.recv(256)
    if head.startswith(b"PROXY"):
        print(" ".join(head.decode().split()[:3]), flush=True)
    else:
        family = {1: socket.AF_INET, 2: socket.AF_INET6}[head[13] >> 4]
        size = 4 if family == socket.AF_INET else 16
        print(f"version 2, {family.name}", socket.inet_ntop(family, head[16:16 + size]), flush=True)
    connection.close()
END
python3 behind.py >behind.log &
started+=("$!")
while [ ! -s behind.log ]; do sleep 0.1; done
port=$(head -1 behind.log)
{
  printf 'defaults\n  mode tcp\n  timeout client 3s\n  timeout connect 3s\n  timeout server 3s\n'
  for name in DUAL FOUR; do
    printf 'listen %s1\n  bind fd@${%s1}\n  server behind 127.0.0.1:%s send-proxy\n' $name $name "$port"
    printf 'listen %s2\n  bind fd@${%s2}\n  server behind 127.0.0.1:%s send-proxy-v2\n' $name $name "$port"
  done
} >haproxy.cfg
python3 listen.py >ports 2>/dev/null &
started+=("$!")
while [ "$(wc -l <ports)" -lt 4 ]; do sleep 0.1; done
sleep 1
for name in FOUR1 FOUR2 DUAL1 DUAL2; do
  before=$(wc -l <behind.log)
  exec 3<>"/dev/tcp/127.0.0.1/$(sed -n "s/^$name //p" ports)"
  echo x >&3
  while [ "$(wc -l <behind.log)" = "$before" ]; do sleep 0.1; done
  exec 3>&-
  echo "$name: $(tail -1 behind.log)"
done >seen
cat >main.go <<'END'
package main

import (
	"fmt"
	"net/netip"
)

func main() {
	list := netip.MustParsePrefix("127.0.0.0/8")
	fmt.Println("Go, 127.0.0.0/8 holds ::ffff:127.0.0.1:", list.Contains(netip.MustParseAddr("::ffff:127.0.0.1")))
}
END
cat >list.py <<'END'
import ipaddress
print("Python, 127.0.0.0/8 holds ::ffff:127.0.0.1:", ipaddress.ip_address("::ffff:127.0.0.1") in ipaddress.ip_network("127.0.0.0/8"))
END
cat >list.mjs <<'END'
import { BlockList } from 'node:net';
const list = new BlockList();
list.addSubnet('127.0.0.0', 8);
console.log('Node, 127.0.0.0/8 holds ::ffff:127.0.0.1:', list.check('::ffff:127.0.0.1', 'ipv6'));
END
{ go run main.go; python3 list.py; node list.mjs; } >>seen
expect 'behind a dual-stack HAProxy an IPv4 client is announced as IPv6' <<'END'
FOUR1: PROXY TCP4 127.0.0.1
FOUR2: version 2, AF_INET 127.0.0.1
DUAL1: PROXY TCP6 ::ffff:127.0.0.1
DUAL2: version 2, AF_INET6 ::ffff:127.0.0.1
Go, 127.0.0.0/8 holds ::ffff:127.0.0.1: false
Python, 127.0.0.0/8 holds ::ffff:127.0.0.1: False
Node, 127.0.0.0/8 holds ::ffff:127.0.0.1: true
END
