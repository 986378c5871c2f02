#!/usr/bin/env bash
# Authlib 1.9.10 (authlib.jose), go-jose 4.1.9, jwx 3.4.0, jose 6.2.18
#
# Guess: a JWK that Authlib makes from a P-256 key is the one every library makes: x, y and d have 43 characters each (RFC 7518 §6.2.1.2
#        wants the full length of the field), and its RFC 7638 thumbprint is the one that joserfc and jose compute from the same key.
# Seen:  Authlib drops leading zero octets. One key in 128 gets an x or y of 42 characters. go-jose and jwx refuse such a key
#        ("wrong length for x"); jose and Node read it. Its thumbprint, which goes over the text, is another one: one key, two names,
#        and every key id or `jkt` made from it fails to match for that key alone.
. "$(dirname "$0")/lib/finding.sh"
pip_install Authlib==1.9.10 cryptography==50.0.2
npm_install jose@6.2.18
go_get github.com/go-jose/go-jose/v4@v4.1.9 github.com/lestrrat-go/jwx/v3@v3.4.0

cat >key.mjs <<'END'
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { calculateJwkThumbprint } from 'jose';
for (;;) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = privateKey.export({ format: 'jwk' });
  if (Buffer.from(jwk.x, 'base64url')[0] !== 0) continue;
  writeFileSync('key.pem', privateKey.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync('thumbprint', await calculateJwkThumbprint(jwk));
  break;
}
END
cat >write.py <<'END'
import json, warnings
warnings.simplefilter("ignore")
from authlib.jose import JsonWebKey
key = JsonWebKey.import_key(open("key.pem", "rb").read(), {"kty": "EC"})
jwk = key.as_dict()
json.dump({n: jwk[n] for n in ("kty", "crv", "x", "y")}, open("authlib.json", "w"))
print("Authlib: x has", len(jwk["x"]), "characters; the thumbprint is",
      "the same" if key.thumbprint() == open("thumbprint").read() else "another one")
END
cat >jose.mjs <<'END'
import { readFileSync } from 'node:fs';
import { importJWK, calculateJwkThumbprint } from 'jose';
const jwk = JSON.parse(readFileSync('authlib.json', 'utf8'));
await importJWK(jwk, 'ES256');
const same = (await calculateJwkThumbprint(jwk)) === readFileSync('thumbprint', 'utf8');
console.log(`jose: reads it; the thumbprint is ${same ? 'the same' : 'another one'}`);
END
cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

func main() {
	text, _ := os.ReadFile("authlib.json")
	var key jose.JSONWebKey
	fmt.Println("go-jose:", json.Unmarshal(text, &key))
	_, err := jwk.ParseKey(text)
	parts := strings.Split(fmt.Sprint(err), ": ")
	fmt.Println("jwx:", parts[len(parts)-1])
}
END
node key.mjs
{ venv/bin/python -W ignore write.py; node jose.mjs; go run main.go; } >seen
expect 'Authlib writes a short coordinate that Go libraries refuse' <<'END'
Authlib: x has 42 characters; the thumbprint is another one
jose: reads it; the thumbprint is another one
go-jose: go-jose/go-jose: invalid EC public key, wrong length for x
jwx: invalid "x" length (31) for curve "P-256"
END
