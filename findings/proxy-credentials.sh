#!/usr/bin/env bash
# HTTPS_PROXY with a user, read by curl 7.88 (Debian 12), Go 1.26, requests 2.34.2, httpx 0.28.1, aiohttp 3.14.5, grpcio 1.85.3, grpc-js 1.14.7, undici 6.29.1, axios 1.21.1
#
# Guess: user and password of a proxy's URL are percent-decoded, joined by a colon and sent as Basic (RFC 7617), by every client; a user without a password (a
#        token as user name) is sent as "token:"; and a proxy named as host:port is one for http.
# Seen:  axios sends the percent signs as they stand, so that a password with @ or : can never be right. A user without a password is "token" without a colon
#        from both of gRPC, and no header at all from requests and undici. Without a scheme grpcio and grpc-js go past the proxy, axios speaks TLS to it,
#        undici and aiohttp fail on the URL.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'curl=7.88.1-*'
pip_install requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5 grpcio==1.85.3
npm_install undici@6.29.1 @grpc/grpc-js@1.14.7 axios@1.21.1
cat >proxy.py <<'END'
import base64, re, socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    asked = connection.recv(4096).decode("latin1")
    found = re.search(r"proxy-authorization: *basic (\S+)", asked, re.I)
    words = repr(base64.b64decode(found[1]).decode()) if found else "no credentials"
    print(words if asked.startswith("CONNECT") else "no CONNECT", flush=True)
    connection.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
    connection.close()
END
cat >client.go <<'END'
package main

import "net/http"

func main() { http.Get("https://link.test:9092/") }
END
go build -o go-client client.go
cat >by-requests.py <<'END'
import requests
requests.get("https://link.test:9092/", timeout=2)
END
cat >by-httpx.py <<'END'
import httpx
httpx.get("https://link.test:9092/", timeout=2)
END
cat >by-aiohttp.py <<'END'
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        await session.get("https://link.test:9092/")
asyncio.run(main())
END
cat >by-grpcio.py <<'END'
import grpc
grpc.channel_ready_future(grpc.insecure_channel("link.test:9092")).result(timeout=1.5)
END
cat >by-grpc-js.cjs <<'END'
const { Client, credentials } = require('@grpc/grpc-js');
new Client('link.test:9092', credentials.createInsecure()).waitForReady(Date.now() + 1500, () => process.exit());
END
cat >by-undici.mjs <<'END'
import { EnvHttpProxyAgent, fetch } from 'undici';
await fetch('https://link.test:9092/', { dispatcher: new EnvHttpProxyAgent() });
END
cat >by-axios.mjs <<'END'
import axios from 'axios';
await axios.get('https://link.test:9092/');
END
python3 -u proxy.py >proxy.log &
started+=("$!")
while [ ! -s proxy.log ]; do sleep 0.1; done
port=$(head -1 proxy.log)
# ask WORDS URL
ask() {
  local name before
  local -A how=(
    [curl]='curl --silent --max-time 2 https://link.test:9092/' [Go]=./go-client
    [requests]='venv/bin/python by-requests.py' [httpx]='venv/bin/python by-httpx.py' [aiohttp]='venv/bin/python by-aiohttp.py'
    [grpcio]='venv/bin/python by-grpcio.py' [grpc-js]='node by-grpc-js.cjs' [undici]='node by-undici.mjs' [axios]='node by-axios.mjs'
  )
  echo "$1"
  for name in curl Go requests httpx aiohttp grpcio grpc-js undici axios; do
    before=$(wc -l <proxy.log)
    env -u NO_PROXY -u no_proxy HTTPS_PROXY="$2" https_proxy="$2" timeout 6 ${how[$name]} >/dev/null 2>&1 || true
    echo "  $name: $(tail -n +$((before + 1)) proxy.log | sort -u | grep . || echo 'the proxy is not asked')"
  done
}
{
  ask 'http://user:p%40ss%3A@host:port' "http://user:p%40ss%3A@127.0.0.1:$port"
  ask 'http://token@host:port' "http://token@127.0.0.1:$port"
  ask 'host:port' "127.0.0.1:$port"
} >seen
expect 'credentials of a proxy: axios does not decode them, gRPC leaves out the colon, requests and undici the header' <<'END'
http://user:p%40ss%3A@host:port
  curl: 'user:p@ss:'
  Go: 'user:p@ss:'
  requests: 'user:p@ss:'
  httpx: 'user:p@ss:'
  aiohttp: 'user:p@ss:'
  grpcio: 'user:p@ss:'
  grpc-js: 'user:p@ss:'
  undici: 'user:p@ss:'
  axios: 'user:p%40ss%3A'
http://token@host:port
  curl: 'token:'
  Go: 'token:'
  requests: no credentials
  httpx: 'token:'
  aiohttp: 'token:'
  grpcio: 'token'
  grpc-js: 'token'
  undici: no credentials
  axios: 'token:'
host:port
  curl: no credentials
  Go: no credentials
  requests: no credentials
  httpx: no credentials
  aiohttp: the proxy is not asked
  grpcio: the proxy is not asked
  grpc-js: the proxy is not asked
  undici: the proxy is not asked
  axios: no CONNECT
END
