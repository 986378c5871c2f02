#!/usr/bin/env bash
# openid-client 6.9.0, simple-oauth2 5.1.0 (npm), golang.org/x/oauth2 0.38.0, Authlib 1.9.10, requests-oauthlib 2.0.0, curl 7.88 of Debian 12
#
# Guess: clients authenticate at a token endpoint by client_secret_basic in one way: RFC 6749 §2.3.1 says that id and secret are form-encoded before they are joined and
#        put into base64.
# Seen:  openid-client, simple-oauth2 and x/oauth2 do; Authlib, requests-oauthlib and curl -u send them as they are. An id with a colon then splits in the wrong
#        place, a secret with + or % is another one to a server that decodes, and one that does not decode refuses the first three. Only letters, digits, - . _
#        work with all: make secrets of these.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'curl=7.88.1-*'
pip_install Authlib==1.9.10 requests-oauthlib==2.0.0 oauthlib==3.3.1 requests==2.34.2
npm_install openid-client@6.9.0 simple-oauth2@5.1.0
go_get golang.org/x/oauth2@v0.38.0
cat >server.mjs <<'END'
import { createServer } from 'node:http';
const server = createServer((request, response) => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  response.setHeader('content-type', 'application/json');
  if (request.method === 'GET') return response.end(JSON.stringify({ issuer, token_endpoint: `${issuer}/token` }));
  request.resume();
  console.log(Buffer.from((request.headers.authorization ?? '').split(' ')[1] ?? '', 'base64').toString('latin1'));
  response.end('{"access_token":"x","token_type":"Bearer","expires_in":60}');
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
END
cat >by-openid-client.mjs <<'END'
import * as client from 'openid-client';
const [issuer, id, secret] = process.argv.slice(2);
const options = { algorithm: 'oauth2', execute: [client.allowInsecureRequests] };
await client.clientCredentialsGrant(await client.discovery(new URL(issuer), id, undefined, client.ClientSecretBasic(secret), options));
END
cat >by-simple-oauth2.mjs <<'END'
import { ClientCredentials } from 'simple-oauth2';
const [tokenHost, id, secret] = process.argv.slice(2);
await new ClientCredentials({ client: { id, secret }, auth: { tokenHost, tokenPath: '/token' } }).getToken({});
END
cat >by-authlib.py <<'END'
import sys, warnings
warnings.simplefilter("ignore")
from authlib.integrations.requests_client import OAuth2Session
issuer, id, secret = sys.argv[1:]
OAuth2Session(id, secret, token_endpoint_auth_method="client_secret_basic").fetch_token(issuer + "/token", grant_type="client_credentials")
END
cat >by-requests-oauthlib.py <<'END'
import os, sys
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session
issuer, id, secret = sys.argv[1:]
OAuth2Session(client=BackendApplicationClient(client_id=id)).fetch_token(issuer + "/token", client_id=id, client_secret=secret)
END
cat >main.go <<'END'
package main

import (
	"context"
	"os"

	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	config := clientcredentials.Config{TokenURL: os.Args[1] + "/token", ClientID: os.Args[2], ClientSecret: os.Args[3]}
	if _, err := config.Token(context.Background()); err != nil {
		panic(err)
	}
}
END
go build -o go-client main.go
node server.mjs >server.log &
started+=("$!")
while [ ! -s server.log ]; do sleep 0.1; done
issuer="http://127.0.0.1:$(head -1 server.log)"
by_curl() { curl --silent --user "$2:$3" --data grant_type=client_credentials "$1/token"; }
say() {
  local name=$1
  shift
  "$@" "$issuer" 'service:a' 'p+q%20/~' >/dev/null 2>&1
  sleep 0.1
  echo "$name: $(tail -1 server.log)"
}
{
  say openid-client node by-openid-client.mjs
  say simple-oauth2 node by-simple-oauth2.mjs
  say x/oauth2 ./go-client
  say Authlib venv/bin/python by-authlib.py
  say requests-oauthlib venv/bin/python by-requests-oauthlib.py
  say 'curl -u' by_curl
} >seen
expect 'half of the OAuth clients encode id and secret before Basic, half do not' <<'END'
openid-client: service%3Aa:p%2Bq%2520%2F%7E
simple-oauth2: service%3Aa:p%2Bq%2520%2F~
x/oauth2: service%3Aa:p%2Bq%2520%2F~
Authlib: service:a:p+q%20/~
requests-oauthlib: service:a:p+q%20/~
curl -u: service:a:p+q%20/~
END
