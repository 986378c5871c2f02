#!/usr/bin/env bash
# go-jose 4.1.9, jwx 3.4.0, keyfunc 3.9.2, Authlib 1.9.10; beside PyJWT 2.15.1 and jose 6.2.18
#
# Guess: a key set may hold keys of a kind that a verifier does not know; it skips them (RFC 7517 §5) and finds the ES256 key that a
#        token names. So an issuer can add its first ML-DSA key (kty AKP) beside the old ones without asking anybody.
# Seen:  go-jose (and go-oidc above it), jwx and keyfunc refuse the whole set, Authlib throws KeyError('AKP'); PyJWT and jose skip the key. It
#        takes no post-quantum key either: an X25519 key for encryption is enough for go-jose, a secp256k1 key for all three in Go.
. "$(dirname "$0")/lib/finding.sh"
pip_install PyJWT==2.15.1 Authlib==1.9.10 cryptography==50.0.2
npm_install jose@6.2.18
go_get github.com/go-jose/go-jose/v4@v4.1.9 github.com/lestrrat-go/jwx/v3@v3.4.0 github.com/MicahParks/keyfunc/v3@v3.9.2

cat >sets.mjs <<'END'
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
const make = (type, options) => generateKeyPairSync(type, options).publicKey.export({ format: 'jwk' });
const good = { ...make('ec', { namedCurve: 'P-256' }), kid: 'good', alg: 'ES256', use: 'sig' };
const others = {
  'ML-DSA-44': { kty: 'AKP', alg: 'ML-DSA-44', pub: randomBytes(1312).toString('base64url'), use: 'sig' },
  X25519: { ...make('x25519'), use: 'enc' },
  secp256k1: { ...make('ec', { namedCurve: 'secp256k1' }), use: 'sig', alg: 'ES256K' },
};
for (const [name, other] of Object.entries(others))
  writeFileSync(`${name}.json`, JSON.stringify({ keys: [{ ...other, kid: 'other' }, good] }));
END
cat >read.mjs <<'END'
import { readFileSync } from 'node:fs';
import { createLocalJWKSet } from 'jose';
for (const name of process.argv.slice(2)) {
  const find = createLocalJWKSet(JSON.parse(readFileSync(`${name}.json`, 'utf8')));
  const said = await find({ alg: 'ES256', kid: 'good' }).then(() => 'found', error => error.message);
  console.log(`jose, ${name}: ${said}`);
}
END
cat >read.py <<'END'
import json, sys, warnings
import jwt
warnings.simplefilter("ignore")
from authlib.jose import JsonWebKey
for name in sys.argv[1:]:
    keys = json.load(open(name + ".json"))
    for library, find in (
        ("PyJWT", lambda: jwt.PyJWKSet.from_dict(keys)["good"]),
        ("Authlib", lambda: JsonWebKey.import_key_set(keys).find_by_kid("good")),
    ):
        try:
            find()
            print(f"{library}, {name}: found")
        except Exception as error:
            print(f"{library}, {name}: {error!r}")
END
cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-jose/go-jose/v4"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

func say(library, name string, err error) {
	if err == nil {
		fmt.Printf("%s, %s: found\n", library, name)
	} else {
		fmt.Printf("%s, %s: the set is refused\n", library, name)
	}
}

func main() {
	for _, name := range os.Args[1:] {
		text, _ := os.ReadFile(name + ".json")
		var keys jose.JSONWebKeySet
		err := json.Unmarshal(text, &keys)
		if err == nil && len(keys.Key("good")) != 1 {
			panic("not there")
		}
		say("go-jose", name, err)
		_, err = jwk.Parse(text)
		say("jwx", name, err)
		_, err = keyfunc.NewJWKSetJSON(text)
		say("keyfunc", name, err)
	}
}
END
names=(ML-DSA-44 X25519 secp256k1)
node sets.mjs
{ node read.mjs "${names[@]}"; venv/bin/python -W ignore read.py "${names[@]}"; go run main.go "${names[@]}"; } >seen
expect 'one key of an unknown kind in a key set makes Go libraries and Authlib refuse the whole set' <<'END'
jose, ML-DSA-44: found
jose, X25519: found
jose, secp256k1: found
PyJWT, ML-DSA-44: found
Authlib, ML-DSA-44: KeyError('AKP')
PyJWT, X25519: found
Authlib, X25519: found
PyJWT, secp256k1: found
Authlib, secp256k1: found
go-jose, ML-DSA-44: the set is refused
jwx, ML-DSA-44: the set is refused
keyfunc, ML-DSA-44: the set is refused
go-jose, X25519: the set is refused
jwx, X25519: found
keyfunc, X25519: found
go-jose, secp256k1: the set is refused
jwx, secp256k1: the set is refused
keyfunc, secp256k1: the set is refused
END
