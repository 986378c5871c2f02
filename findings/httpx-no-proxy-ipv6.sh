#!/usr/bin/env bash
# httpx 0.28.1; beside requests 2.34.2 and curl 7.88 of Debian 12
#
# Guess: an entry of NO_PROXY that a client does not understand is passed over: `[::1]`, or fd00::/8 as a dual-stack cluster has it in every pod.
# Seen:  httpx.Client() itself throws InvalidURL ("Invalid port: ':1]'", "Invalid port: ':'"): no request can be made, to any host, with or without
#        a proxy set, until the variable changes, unless the program asks for trust_env=False. `::1` and fd00::1 are fine.
. "$(dirname "$0")/lib/finding.sh"
pip_install httpx==0.28.1 requests==2.34.2
cat >make.py <<'END'
import os, httpx, requests
for entry in ("::1", "[::1]", "fd00::1", "fd00::/8", "[fd00::1]:9092"):
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost," + entry
    requests.utils.get_environ_proxies("https://link.test/", no_proxy=None)
    try:
        httpx.Client().close()
        print(f"httpx, {entry}: a client")
    except httpx.InvalidURL as error:
        print(f"httpx, {entry}: InvalidURL: {error}")
END
venv/bin/python make.py >seen
expect 'httpx makes no client at all when NO_PROXY names an IPv6 block' <<'END'
httpx, ::1: a client
httpx, [::1]: InvalidURL: Invalid port: ':1]'
httpx, fd00::1: a client
httpx, fd00::/8: InvalidURL: Invalid port: ':'
httpx, [fd00::1]:9092: InvalidURL: Invalid port: ':1]:9092'
END
