#!/usr/bin/env bash
# jose 6.2.18 on Node 20; beside jwcrypto 1.6.1, joserfc 1.8.0 and go-jose 4.1.9
#
# Guess: RFC 7517 §4.3 allows exactly "sign" with "verify" in key_ops, so a private signing key that says ["sign","verify"] (as
#        jwcrypto writes it when asked) is read by every library, and signs.
# Seen:  importJWK of jose throws `SyntaxError: Unsupported key usage for a ECDSA key`, for EC, Ed25519 and RSA keys alike: key_ops goes to
#        WebCrypto as it is, where a private key can only sign. The error is no JOSEError and names neither the key nor key_ops. HMAC keys work.
. "$(dirname "$0")/lib/finding.sh"
pip_install jwcrypto==1.6.1 joserfc==1.8.0 cryptography==50.0.2
npm_install jose@6.2.18
go_get github.com/go-jose/go-jose/v4@v4.1.9

cat >make.py <<'END'
from jwcrypto import jwk, jws
kinds = {"EC": dict(crv="P-256"), "OKP": dict(crv="Ed25519"), "RSA": dict(size=2048), "oct": dict(size=256)}
for kty, options in kinds.items():
    key = jwk.JWK.generate(kty=kty, key_ops=["sign", "verify"], **options)
    open(kty + ".json", "w").write(key.export())
END
cat >sign.py <<'END'
from joserfc import jws
from joserfc.jwk import import_key
import json
algorithms = {"EC": "ES256", "OKP": "Ed25519", "RSA": "RS256", "oct": "HS256"}
for kty, alg in algorithms.items():
    key = import_key(json.load(open(kty + ".json")))
    jws.serialize_compact({"alg": alg}, b"x", key, algorithms=[alg])
    print(f"joserfc, {kty}: signs")
END
cat >sign.mjs <<'END'
import { readFileSync } from 'node:fs';
import { CompactSign, importJWK, errors } from 'jose';
const algorithms = { EC: 'ES256', OKP: 'Ed25519', RSA: 'RS256', oct: 'HS256' };
for (const [kty, alg] of Object.entries(algorithms))
  try {
    const key = await importJWK(JSON.parse(readFileSync(`${kty}.json`, 'utf8')), alg);
    await new CompactSign(Buffer.from('x')).setProtectedHeader({ alg }).sign(key);
    console.log(`jose, ${kty}: signs`);
  } catch (error) {
    console.log(`jose, ${kty}: ${error.name}, a JOSEError: ${error instanceof errors.JOSEError}, "${error.message}"`);
  }
END
cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
)

func main() {
	for _, kind := range [][2]string{{"EC", "ES256"}, {"OKP", "EdDSA"}, {"RSA", "RS256"}, {"oct", "HS256"}} {
		text, _ := os.ReadFile(kind[0] + ".json")
		var key jose.JSONWebKey
		if err := json.Unmarshal(text, &key); err != nil {
			panic(err)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(kind[1]), Key: key}, nil)
		if err == nil {
			_, err = signer.Sign([]byte("x"))
		}
		if err != nil {
			panic(err)
		}
		fmt.Printf("go-jose, %s: signs\n", kind[0])
	}
}
END
venv/bin/python make.py
{ node sign.mjs; venv/bin/python sign.py; go run main.go; } >seen
expect 'jose refuses a private JWK whose key_ops are "sign" and "verify", the pair that RFC 7517 allows' <<'END'
jose, EC: SyntaxError, a JOSEError: false, "Unsupported key usage for a ECDSA key"
jose, OKP: SyntaxError, a JOSEError: false, "Unsupported key usage for a Ed25519 key"
jose, RSA: SyntaxError, a JOSEError: false, "Unsupported key usage for an RSASSA-PKCS1-v1_5 key"
jose, oct: signs
joserfc, EC: signs
joserfc, OKP: signs
joserfc, RSA: signs
joserfc, oct: signs
go-jose, EC: signs
go-jose, OKP: signs
go-jose, RSA: signs
go-jose, oct: signs
END
