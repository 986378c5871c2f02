#!/usr/bin/env bash
# NO_PROXY read by curl 7.88 (Debian 12), Go 1.26, requests 2.34.2, httpx 0.28.1, proxy-from-env (npm) 2.1.0, undici 6.29.1, grpc-js 1.14.7, grpcio 1.85.3
#
# Guess: NO_PROXY is one convention with small gaps: `*` means everything, a space after a comma does no harm, CIDR blocks and host:port are known to most,
#        and link.test never means notlink.test.
# Seen:  of twelve cases all eight agree on two: the exact name in lower case, and `.link.test` for hosts below it. grpc-js takes link.test for the end of any
#        name, notlink.test too; knows no `*`, no capitals, and no entry after ", ". grpcio knows no `*` either. A bare name covers hosts below it in all
#        but proxy-from-env and undici, `*.link.test` in Go and these two alone, host:port in all but curl and the two of gRPC. Go alone never asks a
#        proxy for localhost.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'curl=7.88.1-*'
pip_install requests==2.34.2 httpx==0.28.1 grpcio==1.85.3
npm_install proxy-from-env@2.1.0 undici@6.29.1 @grpc/grpc-js@1.14.7
cat >proxy.py <<'END'
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    asked = connection.recv(4096)
    print("asked", flush=True)
    connection.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
    connection.close()
END
cat >client.go <<'END'
package main

import (
	"net/http"
	"os"
)

func main() { http.Get("https://" + os.Args[1] + "/") }
END
go build -o go-client client.go
cat >by-requests.py <<'END'
import requests, sys
requests.get(f"https://{sys.argv[1]}/", timeout=2)
END
cat >by-httpx.py <<'END'
import httpx, sys
httpx.get(f"https://{sys.argv[1]}/", timeout=2)
END
cat >by-grpcio.py <<'END'
import grpc, sys
grpc.channel_ready_future(grpc.insecure_channel(sys.argv[1])).result(timeout=1.5)
END
cat >by-grpc-js.cjs <<'END'
const { Client, credentials } = require('@grpc/grpc-js');
new Client(process.argv[2], credentials.createInsecure()).waitForReady(Date.now() + 1500, () => process.exit());
END
cat >by-undici.mjs <<'END'
import { EnvHttpProxyAgent, fetch } from 'undici';
await fetch(`https://${process.argv[2]}/`, { dispatcher: new EnvHttpProxyAgent() });
END
cat >by-proxy-from-env.mjs <<'END'
import { getProxyForUrl } from 'proxy-from-env';
const proxy = getProxyForUrl(`https://${process.argv[2]}/`);
if (proxy) await fetch(proxy);
END
python3 -u proxy.py >proxy.log &
started+=("$!")
while [ ! -s proxy.log ]; do sleep 0.1; done
proxy="http://127.0.0.1:$(head -1 proxy.log)"
# ask ENTRIES HOST:PORT: who goes past the proxy
ask() {
  local entries=$1 host=$2 name
  local -A how=(
    [curl]="curl --silent --max-time 2 https://$host/"
    [Go]="./go-client $host"
    [requests]="venv/bin/python by-requests.py $host"
    [httpx]="venv/bin/python by-httpx.py $host"
    [proxy-from-env]="node by-proxy-from-env.mjs $host"
    [undici]="node by-undici.mjs $host"
    [grpc-js]="node by-grpc-js.cjs $host"
    [grpcio]="venv/bin/python by-grpcio.py $host"
  )
  local past=()
  for name in curl Go requests httpx proxy-from-env undici grpc-js grpcio; do
    before=$(grep -c asked proxy.log || true)
    env HTTPS_PROXY="$proxy" https_proxy="$proxy" NO_PROXY="$entries" no_proxy="$entries" timeout 5 ${how[$name]} >/dev/null 2>&1 || true
    [ "$(grep -c asked proxy.log || true)" = "$before" ] && past+=("$name")
  done
  echo "NO_PROXY=\"$entries\", $host: past the proxy: ${past[*]:-none}"
}
{
  ask 'link.test' link.test:9092
  ask 'link.test' a.link.test:9092
  ask 'link.test' notlink.test:9092
  ask '.link.test' a.link.test:9092
  ask '.link.test' link.test:9092
  ask '*.link.test' a.link.test:9092
  ask '*' link.test:9092
  ask 'other.test, link.test' link.test:9092
  ask 'LINK.test' link.test:9092
  ask 'link.test:9092' link.test:9092
  ask '127.0.0.0/8' 127.0.0.2:9092
  ask '' localhost:9092
} >seen
expect 'NO_PROXY: eight readers agree on two forms; grpc-js takes link.test for notlink.test too' <<'END'
NO_PROXY="link.test", link.test:9092: past the proxy: curl Go requests httpx proxy-from-env undici grpc-js grpcio
NO_PROXY="link.test", a.link.test:9092: past the proxy: curl Go requests httpx grpc-js grpcio
NO_PROXY="link.test", notlink.test:9092: past the proxy: grpc-js
NO_PROXY=".link.test", a.link.test:9092: past the proxy: curl Go requests httpx proxy-from-env undici grpc-js grpcio
NO_PROXY=".link.test", link.test:9092: past the proxy: curl requests grpcio
NO_PROXY="*.link.test", a.link.test:9092: past the proxy: Go proxy-from-env undici
NO_PROXY="*", link.test:9092: past the proxy: curl Go requests httpx proxy-from-env undici
NO_PROXY="other.test, link.test", link.test:9092: past the proxy: curl Go requests httpx proxy-from-env undici grpcio
NO_PROXY="LINK.test", link.test:9092: past the proxy: curl Go requests httpx proxy-from-env undici grpcio
NO_PROXY="link.test:9092", link.test:9092: past the proxy: Go requests httpx proxy-from-env undici
NO_PROXY="127.0.0.0/8", 127.0.0.2:9092: past the proxy: curl Go requests grpc-js grpcio
NO_PROXY="", localhost:9092: past the proxy: Go
END
