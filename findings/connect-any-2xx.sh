#!/usr/bin/env bash
# CONNECT through a proxy by curl 7.88 (Debian 12), Go 1.26, Java 17, requests 2.34.2, httpx 0.28.1, aiohttp 3.14.5, grpcio 1.85.3, undici 6.29.1, https-proxy-agent 9.1.0, grpc-js 1.14.7
#
# Guess: any 2xx answer to CONNECT opens the tunnel (RFC 9110 §9.3.6), 201 or 204 as well as 200.
# Seen:  only curl, httpx and grpcio go on with 201. Go, Java, requests, aiohttp, undici and grpc-js take it for a refusal. https-proxy-agent gives the proxy's answer
#        to the program as if the server had sent it: status 201, empty body, no TLS behind it.
. "$(dirname "$0")/lib/finding.sh"
. "$here/lib/x509-verifiers.sh"
apt_install 'curl=7.88.1-*' 'openssl=3.0.*'
pip_install requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5 grpcio==1.85.3
npm_install undici@6.29.1 https-proxy-agent@9.1.0 @grpc/grpc-js@1.14.7
certificate root /CN=Root "$usual_ca"
certificate server /CN=server "$usual_leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:link.test" root
cat >server.mjs <<'END'
import { createSecureServer } from 'node:http2';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
const [key, cert] = ['server.key', 'server.pem'].map(name => readFileSync(name));
const server = createSecureServer({ key, cert, allowHTTP1: true }, (_, response) => response.end('hello'));
server.on('sessionError', () => {}).on('tlsClientError', () => {});
server.listen(0, '127.0.0.1');
const proxy = createServer(client => {
  client.on('error', () => {});
  client.once('data', () => {
    const behind = connect(server.address().port, '127.0.0.1', () => {
      client.write(`HTTP/1.1 ${readFileSync('status', 'utf8')}\r\n\r\n`);
      client.pipe(behind).pipe(client);
    });
    behind.on('error', () => client.destroy());
  });
});
proxy.listen(0, '127.0.0.1', () => writeFileSync('port', String(proxy.address().port)));
END
cat >client.go <<'END'
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
)

func main() {
	text, _ := os.ReadFile("root.pem")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	proxy, _ := url.Parse(os.Args[1])
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}}}
	response, err := client.Get("https://link.test/")
	if err != nil {
		fmt.Println("refused")
		return
	}
	body, _ := io.ReadAll(response.Body)
	fmt.Printf("%d %q\n", response.StatusCode, body)
}
END
go build -o go-client client.go
cat >Client.java <<'END'
import java.io.FileInputStream;
import java.net.*;
import java.net.http.*;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.*;

class Client {
  public static void main(String[] arguments) throws Exception {
    var roots = KeyStore.getInstance("PKCS12");
    roots.load(null, null);
    roots.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream("root.pem")));
    var trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(roots);
    var context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    var proxy = ProxySelector.of(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0].replaceAll(".*:", ""))));
    var client = HttpClient.newBuilder().sslContext(context).version(HttpClient.Version.HTTP_1_1).proxy(proxy).build();
    try {
      var response = client.send(HttpRequest.newBuilder(URI.create("https://link.test/")).build(), HttpResponse.BodyHandlers.ofString());
      System.out.println(response.statusCode() + " \"" + response.body() + "\"");
    } catch (java.io.IOException error) {
      System.out.println("refused");
    }
  }
}
END
javac Client.java
cat >client.py <<'END'
import asyncio, os, ssl, sys
import aiohttp, grpc, httpx, requests
name, proxy = sys.argv[1:]
context = ssl.create_default_context(cafile="root.pem")
async def by_aiohttp():
    async with aiohttp.ClientSession() as session, session.get("https://link.test/", proxy=proxy, ssl=context) as response:
        return response.status, await response.text()
def by_grpcio():
    os.environ["https_proxy"] = proxy
    channel = grpc.secure_channel("link.test:443", grpc.ssl_channel_credentials(open("root.pem", "rb").read()))
    grpc.channel_ready_future(channel).result(timeout=4)
def by_requests():
    response = requests.get("https://link.test/", proxies={"https": proxy}, verify="root.pem")
    return response.status_code, response.text
def by_httpx():
    response = httpx.get("https://link.test/", proxy=proxy, verify=context)
    return response.status_code, response.text
try:
    got = {"aiohttp": lambda: asyncio.run(by_aiohttp()), "grpcio": by_grpcio, "requests": by_requests, "httpx": by_httpx}[name]()
    print("a channel" if got is None else '{} "{}"'.format(*got))
except Exception:
    print("refused")
END
cat >client.mjs <<'END'
import { readFileSync } from 'node:fs';
import { get } from 'node:https';
const [name, proxy] = process.argv.slice(2);
const ca = readFileSync('root.pem');
const refused = () => 'refused';
const ask = {
  async undici() {
    const { ProxyAgent, fetch } = await import('undici');
    return fetch('https://link.test/', { dispatcher: new ProxyAgent({ uri: proxy, requestTls: { ca } }) }).then(async response => `${response.status} "${await response.text()}"`, refused);
  },
  async 'https-proxy-agent'() {
    const { HttpsProxyAgent } = await import('https-proxy-agent');
    return new Promise(resolve => {
      const request = get('https://link.test/', { agent: new HttpsProxyAgent(proxy), ca }, response => {
        let body = '';
        response.on('data', data => (body += data));
        response.on('end', () => resolve(`${response.statusCode} "${body}"`));
      });
      request.on('error', () => resolve('refused'));
    });
  },
  async 'grpc-js'() {
    process.env.https_proxy = proxy;
    const { Client, credentials } = await import('@grpc/grpc-js');
    const client = new Client('link.test:443', credentials.createSsl(ca));
    return new Promise(resolve => client.waitForReady(Date.now() + 4000, error => resolve(error ? 'refused' : 'a channel')));
  },
};
console.log(await ask[name]());
process.exit();
END
node server.mjs >/dev/null 2>&1 &
started+=("$!")
while [ ! -s port ]; do sleep 0.1; done
proxy="http://127.0.0.1:$(cat port)"
by_curl() { curl --silent --cacert root.pem --proxy "$proxy" --write-out '%{stderr}%{http_code}' --output body https://link.test/ 2>code && echo "$(cat code) \"$(cat body)\"" || echo refused; }
unset NO_PROXY no_proxy HTTPS_PROXY https_proxy HTTP_PROXY http_proxy ALL_PROXY all_proxy
for status in '200 OK' '201 Created'; do
  printf '%s' "$status" >status
  echo "the proxy answers $status"
  echo "  curl: $(by_curl)"
  echo "  Go: $(./go-client "$proxy")"
  echo "  Java: $(java Client "$proxy")"
  for name in requests httpx aiohttp grpcio; do echo "  $name: $(venv/bin/python client.py $name "$proxy" 2>/dev/null)"; done
  for name in undici https-proxy-agent grpc-js; do echo "  $name: $(node client.mjs $name "$proxy" 2>/dev/null)"; done
done >seen
expect 'seven of ten clients know no success of CONNECT but 200' <<'END'
the proxy answers 200 OK
  curl: 200 "hello"
  Go: 200 "hello"
  Java: 200 "hello"
  requests: 200 "hello"
  httpx: 200 "hello"
  aiohttp: 200 "hello"
  grpcio: a channel
  undici: 200 "hello"
  https-proxy-agent: 200 "hello"
  grpc-js: a channel
the proxy answers 201 Created
  curl: 200 "hello"
  Go: refused
  Java: refused
  requests: refused
  httpx: 200 "hello"
  aiohttp: refused
  grpcio: a channel
  undici: refused
  https-proxy-agent: 201 ""
  grpc-js: refused
END
