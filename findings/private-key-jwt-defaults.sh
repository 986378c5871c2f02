#!/usr/bin/env bash
# Authlib 1.9.10, openid-client 6.9.0, msal 1.39.0 (Python), golang.org/x/oauth2 0.38.0
#
# Guess: assertions by which a client proves its key at a token endpoint (RFC 7523) are alike: aud is the token endpoint, exp some minutes away, jti there, any key
#        that JWS has. A server that allows five minutes and asks for jti suits all of them.
# Seen:  aud is the token endpoint from Authlib and x/oauth2, the issuer from openid-client; exp is 60 s away (openid-client), 10
#        minutes (msal) or an hour (Authlib, x/oauth2), so a limit of five minutes refuses Authlib's defaults; x/oauth2 has no jti, takes RSA keys alone ("private
#        key is invalid" for an EC key), and dates iat ten seconds back. Authlib with alg="ES256" and an EC key as PEM: "Not a key of: 'RSA'".
. "$(dirname "$0")/lib/finding.sh"
pip_install Authlib==1.9.10 requests==2.34.2 msal==1.39.0 cryptography==50.0.2
npm_install openid-client@6.9.0 jose@6.2.18
go_get golang.org/x/oauth2@v0.38.0
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out ec.pem
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem 2>/dev/null || openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem 2>/dev/null
cat >server.mjs <<'END'
import { createServer } from 'node:http';
const server = createServer((request, response) => {
  const base = `http://127.0.0.1:${server.address().port}`;
  response.setHeader('content-type', 'application/json');
  if (request.method === 'GET') {
    const known = { issuer: base, token_endpoint: `${base}/token`, authorization_endpoint: `${base}/authorize`, jwks_uri: `${base}/keys`, response_types_supported: ['code'], subject_types_supported: ['public'], id_token_signing_alg_values_supported: ['ES256'] };
    return response.end(JSON.stringify(known));
  }
  let body = '';
  request.on('data', data => (body += data));
  request.on('end', () => {
    const parameters = new URLSearchParams(body);
    const assertion = parameters.get('client_assertion') ?? parameters.get('assertion');
    const [header, claims] = assertion.split('.').map(part => Buffer.from(part, 'base64url').toString());
    const { alg } = JSON.parse(header);
    const { aud, exp, iat, jti } = JSON.parse(claims);
    const audience = aud === `${base}/token` ? 'token endpoint' : aud === base ? 'issuer' : aud;
    const away = Math.round((exp - Date.now() / 1000) / 10) * 10;
    console.log(`alg ${alg}, aud ${audience}, exp in ${away} s, iat ${iat < Date.now() / 1000 - 5 ? 'back-dated' : 'now'}, jti ${jti ? 'yes' : 'no'}`);
    response.end('{"access_token":"x","token_type":"Bearer","expires_in":60}');
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
END
cat >by-openid-client.mjs <<'END'
import { readFileSync } from 'node:fs';
import { importPKCS8 } from 'jose';
import * as client from 'openid-client';
const key = await importPKCS8(readFileSync('ec.pem', 'utf8'), 'ES256');
const options = { execute: [client.allowInsecureRequests] };
const config = await client.discovery(new URL(process.argv[2]), 'me', undefined, client.PrivateKeyJwt(key), options);
await client.clientCredentialsGrant(config);
END
cat >by-authlib.py <<'END'
import sys, warnings
warnings.simplefilter("ignore")
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey
token = sys.argv[1] + "/token"
def ask(key, **options):
    how = PrivateKeyJWT(token, **options)
    OAuth2Session("me", key, token_endpoint_auth_method=how).fetch_token(token, grant_type="client_credentials")
try:
    ask(open("ec.pem").read(), alg="ES256")
except Exception as error:
    print("Authlib, EC key as PEM:", error)
ask(ECKey.import_key(open("ec.pem").read()), alg="ES256")
END
cat >by-msal.py <<'END'
import sys
from msal.oauth2cli.assertion import JwtAssertionCreator
from msal.oauth2cli.oauth2 import Client
import requests
token = sys.argv[1] + "/token"
assertion = JwtAssertionCreator(open("rsa.pem").read(), algorithm="RS256").create_normal_assertion(audience=token, issuer="me")
how = {"client_assertion": assertion, "client_assertion_type": Client.CLIENT_ASSERTION_TYPE_JWT}
Client({"token_endpoint": token}, "me", http_client=requests.Session(), default_body=how).obtain_token_for_client()
END
cat >main.go <<'END'
package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/oauth2/jwt"
)

func main() {
	for _, name := range []string{"ec.pem", "rsa.pem"} {
		key, _ := os.ReadFile(name)
		config := jwt.Config{Email: "me", PrivateKey: key, TokenURL: os.Args[1] + "/token"}
		if _, err := config.TokenSource(context.Background()).Token(); err != nil {
			fmt.Printf("x/oauth2, %s: %v\n", name, err)
		}
	}
}
END
node server.mjs >server.log &
started+=("$!")
while [ ! -s server.log ]; do sleep 0.1; done
base="http://127.0.0.1:$(head -1 server.log)"
say() {
  local name=$1 before
  shift
  before=$(wc -l <server.log)
  "$@" "$base" 2>/dev/null
  sleep 0.2
  echo "$name: $(tail -n +$((before + 1)) server.log)"
}
{
  say openid-client node by-openid-client.mjs
  say Authlib venv/bin/python by-authlib.py
  say msal venv/bin/python by-msal.py
  say x/oauth2 go run main.go
} >seen
expect 'client assertions differ in audience and lifetime: an issuer or an endpoint, a minute or an hour' <<'END'
openid-client: alg ES256, aud issuer, exp in 60 s, iat now, jti yes
Authlib, EC key as PEM: invalid_key_type: Not a key of: 'RSA'
Authlib: alg ES256, aud token endpoint, exp in 3600 s, iat now, jti yes
msal: alg RS256, aud token endpoint, exp in 600 s, iat now, jti yes
x/oauth2, ec.pem: private key is invalid
x/oauth2: alg RS256, aud token endpoint, exp in 3590 s, iat back-dated, jti no
END
