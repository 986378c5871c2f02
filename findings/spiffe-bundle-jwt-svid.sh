#!/usr/bin/env bash
# SPIFFE bundle format read by jose 6.2.18, joserfc 1.8.0, jwcrypto 1.6.1, PyJWT 2.15.1, keyfunc 3.9.2, jwx 3.4.0, nimbus-jose-jwt 10.10, jjwt 0.13.0
#
# Guess: a SPIFFE bundle is a JWK set, its JWT keys say `use: jwt-svid` (RFC 7517 §4.2: "Other values MAY be used"); a JWT library that is given
#        the bundle verifies a JWT-SVID by kid.
# Seen:  it divides them. PyJWT, keyfunc and jjwt never look at `use` and verify; jose, jwcrypto, jwx and nimbus say that no key of that kid is there,
#        which reads like a rotation that was missed; joserfc refuses to read the whole set.
. "$(dirname "$0")/lib/finding.sh"
pip_install PyJWT==2.15.1 joserfc==1.8.0 jwcrypto==1.6.1 cryptography==50.0.2
npm_install jose@6.2.18
go_get github.com/lestrrat-go/jwx/v3@v3.4.0 github.com/MicahParks/keyfunc/v3@v3.9.2 github.com/golang-jwt/jwt/v5@v5.3.1
maven_get com.nimbusds:nimbus-jose-jwt:10.10 io.jsonwebtoken:jjwt-api:0.13.0 io.jsonwebtoken:jjwt-impl:0.13.0 io.jsonwebtoken:jjwt-jackson:0.13.0

cat >make.mjs <<'END'
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { SignJWT } from 'jose';
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const key = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'k1', use: 'jwt-svid' };
writeFileSync('bundle.json', JSON.stringify({ keys: [key], spiffe_sequence: 1, spiffe_refresh_hint: 300 }));
const token = new SignJWT({ sub: 'spiffe://example.org/a', aud: ['b'] }).setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'JWT' });
writeFileSync('token', await token.setExpirationTime('1h').sign(pair.privateKey));
END
cat >read.mjs <<'END'
import { readFileSync } from 'node:fs';
import { createLocalJWKSet, jwtVerify } from 'jose';
const bundle = createLocalJWKSet(JSON.parse(readFileSync('bundle.json', 'utf8')));
await jwtVerify(readFileSync('token', 'utf8'), bundle).then(() => console.log('jose: verified'), error => console.log(`jose: ${error.message}`));
END
cat >read.py <<'END'
import json
import jwt
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwcrypto import jwk, jwt as jwcrypto_jwt
text, token = open("bundle.json").read(), open("token").read()
for library, verify in (
    ("PyJWT", lambda: jwt.decode(token, jwt.PyJWKSet.from_json(text)["k1"], algorithms=["ES256"], audience="b")),
    ("joserfc", lambda: joserfc_jwt.decode(token, KeySet.import_key_set(json.loads(text)), algorithms=["ES256"])),
    ("jwcrypto", lambda: jwcrypto_jwt.JWT(jwt=token, key=jwk.JWKSet.from_json(text), algs=["ES256"])),
):
    try:
        verify()
        print(f"{library}: verified")
    except Exception as error:
        print(f"{library}: {error}")
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/lestrrat-go/jwx/v3/jws"
)

func main() {
	text, _ := os.ReadFile("bundle.json")
	token, _ := os.ReadFile("token")
	find, err := keyfunc.NewJWKSetJSON(text)
	if err == nil {
		_, err = jwt.Parse(string(token), find.Keyfunc)
	}
	if err == nil {
		fmt.Println("keyfunc: verified")
	}
	keys, err := jwk.Parse(text)
	if err != nil {
		panic(err)
	}
	_, err = jwxjwt.Parse(token, jwxjwt.WithKeySet(keys, jws.WithInferAlgorithmFromKey(true)))
	said := fmt.Sprint(err)
	if at := strings.Index(said, "key with kid"); at >= 0 {
		said = strings.SplitN(said[at:], "\n", 2)[0]
	}
	fmt.Println("jwx:", said)
}
END
cat >Read.java <<'END'
import java.nio.file.*;

class Read {
  public static void main(String[] arguments) throws Exception {
    String text = Files.readString(Path.of("bundle.json")), token = Files.readString(Path.of("token"));
    var processor = new com.nimbusds.jwt.proc.DefaultJWTProcessor<com.nimbusds.jose.proc.SecurityContext>();
    var keys = new com.nimbusds.jose.jwk.source.ImmutableJWKSet<>(com.nimbusds.jose.jwk.JWKSet.parse(text));
    processor.setJWSKeySelector(new com.nimbusds.jose.proc.JWSVerificationKeySelector<>(com.nimbusds.jose.JWSAlgorithm.ES256, keys));
    try {
      processor.process(token, null);
      System.out.println("nimbus: verified");
    } catch (Exception error) {
      System.out.println("nimbus: " + error.getMessage());
    }
    var set = io.jsonwebtoken.security.Jwks.setParser().build().parse(text);
    io.jsonwebtoken.Jwts.parser().verifyWith((java.security.PublicKey) set.getKeys().iterator().next().toKey()).build().parseSignedClaims(token);
    System.out.println("jjwt: verified");
  }
}
END
node make.mjs
{ node read.mjs; venv/bin/python read.py; go run main.go; java -cp 'lib/*' Read.java 2>/dev/null; } >seen
expect 'generic JWT libraries disagree on whether a SPIFFE bundle holds a key for a JWT-SVID at all' <<'END'
jose: no applicable key found in the JSON Web Key Set
PyJWT: verified
joserfc: key_parameter: 'use' must be one of ['sig', 'enc']
jwcrypto: Missing Key
keyfunc: verified
jwx: key with kid "k1" is marked use="jwt-svid", not usable for signature verification (expected "sig")
nimbus: Signed JWT rejected: Another algorithm expected, or no matching key(s) found
jjwt: verified
END
