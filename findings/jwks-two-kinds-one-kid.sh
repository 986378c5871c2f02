#!/usr/bin/env bash
# PyJWT 2.15.1, Authlib 1.9.10, joserfc 1.8.0, jose 6.2.18, jwks-rsa 4.1.0, go-jose 4.1.9, keyfunc 3.9.2, Rust jsonwebtoken 12.0.0
#
# Guess: RFC 7517 §4.5 names it: two keys of one set may have the same kid when their kty differs ("considered to be equivalent
#        alternatives"), say an RSA and an EC key while an issuer moves from RS256 to ES256. A verifier takes the one that the alg can be used with.
# Seen:  six of eight take the first key with that kid, whatever its kty, and refuse a good ES256 token when the RSA key stands first
#        (Authlib with KeyError(0)). Only jose and joserfc look at the kind.
. "$(dirname "$0")/lib/finding.sh"
pip_install PyJWT==2.15.1 Authlib==1.9.10 joserfc==1.8.0 cryptography==50.0.2
npm_install jose@6.2.18 jwks-rsa@4.1.0 jsonwebtoken@9.0.3
go_get github.com/go-jose/go-jose/v4@v4.1.9 github.com/MicahParks/keyfunc/v3@v3.9.2 github.com/golang-jwt/jwt/v5@v5.3.1
cargo_get jsonwebtoken@=12.0.0+rust_crypto serde_json@=1.0.154

cat >make.mjs <<'END'
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { SignJWT } from 'jose';
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const jwk = (pair, alg) => ({ ...pair.publicKey.export({ format: 'jwk' }), kid: 'one', use: 'sig', alg });
writeFileSync('keys.json', JSON.stringify({ keys: [jwk(rsa, 'RS256'), jwk(ec, 'ES256')] }));
const token = new SignJWT({ sub: 'me' }).setProtectedHeader({ alg: 'ES256', kid: 'one' }).setExpirationTime('1h');
writeFileSync('token', await token.sign(ec.privateKey));
END
cat >read.mjs <<'END'
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createLocalJWKSet, jwtVerify } from 'jose';
import jwksRsa from 'jwks-rsa';
import jsonwebtoken from 'jsonwebtoken';
const [keys, token] = ['keys.json', 'token'].map(name => readFileSync(name, 'utf8'));
const say = (library, doing) => doing.then(() => console.log(`${library}: taken`), () => console.log(`${library}: refused`));
await say('jose', jwtVerify(token, createLocalJWKSet(JSON.parse(keys))));
const server = createServer((_, response) => response.end(keys)).listen(0, '127.0.0.1');
await new Promise(done => server.on('listening', done));
const client = jwksRsa({ jwksUri: `http://127.0.0.1:${server.address().port}/` });
const verify = key => jsonwebtoken.verify(token, key.getPublicKey(), { algorithms: ['ES256'] });
await say('jwks-rsa', client.getSigningKey('one').then(verify));
server.close();
server.closeAllConnections();
END
cat >read.py <<'END'
import json, warnings
warnings.simplefilter("ignore")
import jwt
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from authlib.jose import JsonWebKey, JsonWebToken
keys, token = json.load(open("keys.json")), open("token").read()
for library, verify in (
    ("PyJWT", lambda: jwt.decode(token, jwt.PyJWKSet.from_dict(keys)["one"], algorithms=["ES256"])),
    ("joserfc", lambda: joserfc_jwt.decode(token, KeySet.import_key_set(keys), algorithms=["ES256"])),
    ("Authlib", lambda: JsonWebToken(["ES256"]).decode(token, JsonWebKey.import_key_set(keys))),
):
    try:
        verify()
        print(f"{library}: taken")
    except Exception:
        print(f"{library}: refused")
END
cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
)

func say(library string, err error) {
	if err == nil {
		fmt.Printf("%s: taken\n", library)
	} else {
		fmt.Printf("%s: refused\n", library)
	}
}

func main() {
	text, _ := os.ReadFile("keys.json")
	token, _ := os.ReadFile("token")
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(text, &keys); err != nil {
		panic(err)
	}
	parsed, _ := josejwt.ParseSigned(string(token), []jose.SignatureAlgorithm{jose.ES256})
	say("go-jose", parsed.Claims(&keys, &josejwt.Claims{}))
	find, _ := keyfunc.NewJWKSetJSON(text)
	_, err := jwt.Parse(string(token), find.Keyfunc, jwt.WithValidMethods([]string{"ES256"}))
	say("keyfunc", err)
}
END
cat >src/main.rs <<'END'
use jsonwebtoken::{decode, jwk::JwkSet, Algorithm, DecodingKey, Validation};

fn main() {
    let keys: JwkSet = serde_json::from_slice(&std::fs::read("keys.json").unwrap()).unwrap();
    let token = std::fs::read_to_string("token").unwrap();
    let key = DecodingKey::from_jwk(keys.find("one").unwrap()).unwrap();
    let taken = decode::<serde_json::Value>(&token, &key, &Validation::new(Algorithm::ES256)).is_ok();
    println!("Rust jsonwebtoken: {}", if taken { "taken" } else { "refused" });
}
END
node make.mjs
{ node read.mjs; venv/bin/python -W ignore read.py; go run main.go; cargo run --quiet; } >seen
expect 'six of eight libraries take the first key of a kid, though another kind of key with that kid would fit' <<'END'
jose: taken
jwks-rsa: refused
PyJWT: refused
joserfc: taken
Authlib: refused
go-jose: refused
keyfunc: refused
Rust jsonwebtoken: refused
END
