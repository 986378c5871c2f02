#!/usr/bin/env bash
# golang-jwt 5.3.1, go-jose 4.1.9, jwx 3.4.0, nimbus-jose-jwt 10.10, jjwt 0.13.0, auth0 java-jwt 4.5.0, jose4j 0.9.6, jose 6.2.18, PyJWT 2.15.1, joserfc 1.8.0
#
# Guess: NumericDate is a JSON number (RFC 7519 §2), so `exp` set to the largest int64 means "never" everywhere; at worst a library says that
#        the number is too large.
# Seen:  golang-jwt, nimbus and jjwt say that the token HAS EXPIRED (nimbus and jjwt already for 10^16, which is what microseconds look like:
#        they multiply by 1000 and overflow); go-jose, jwx and java-jwt refuse with errors of other kinds; jose, PyJWT, joserfc and jose4j take it.
. "$(dirname "$0")/lib/finding.sh"
pip_install PyJWT==2.15.1 joserfc==1.8.0 cryptography==50.0.2
npm_install jose@6.2.18
go_get github.com/go-jose/go-jose/v4@v4.1.9 github.com/lestrrat-go/jwx/v3@v3.4.0 github.com/golang-jwt/jwt/v5@v5.3.1
maven_get com.nimbusds:nimbus-jose-jwt:10.10 io.jsonwebtoken:jjwt-api:0.13.0 io.jsonwebtoken:jjwt-impl:0.13.0 io.jsonwebtoken:jjwt-jackson:0.13.0 \
  org.bitbucket.b_c:jose4j:0.9.6 com.auth0:java-jwt:4.5.0

cat >make.mjs <<'END'
import { createHmac } from 'node:crypto';
import { writeFileSync } from 'node:fs';
const encode = text => Buffer.from(text).toString('base64url');
for (const exp of ['253402300799', '10000000000000000', '9223372036854775807']) {
  const signed = `${encode('{"alg":"HS256","typ":"JWT"}')}.${encode(`{"sub":"me","exp":${exp}}`)}`;
  writeFileSync(exp, `${signed}.${createHmac('sha256', 'k'.repeat(32)).update(signed).digest('base64url')}`);
}
END
cat >read.mjs <<'END'
import { readFileSync } from 'node:fs';
import { jwtVerify } from 'jose';
for (const name of process.argv.slice(2))
  await jwtVerify(readFileSync(name, 'utf8'), Buffer.from('k'.repeat(32))).then(
    () => console.log(`${name} jose: taken`),
    error => console.log(`${name} jose: ${error.message}`),
  );
END
cat >read.py <<'END'
import sys
import jwt
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import OctKey
for name in sys.argv[1:]:
    token = open(name).read()
    def joserfc():
        joserfc_jwt.JWTClaimsRegistry().validate(joserfc_jwt.decode(token, OctKey.import_key("k" * 32), algorithms=["HS256"]).claims)
    for library, verify in (("PyJWT", lambda: jwt.decode(token, "k" * 32, algorithms=["HS256"])), ("joserfc", joserfc)):
        try:
            verify()
            print(f"{name} {library}: taken")
        except Exception as error:
            print(f"{name} {library}: {error}")
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwa"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
)

func say(name, library string, err error) {
	said := "taken"
	if err != nil {
		parts := strings.Split(err.Error(), ": ")
		said = parts[len(parts)-1]
	}
	fmt.Printf("%s %s: %s\n", name, library, said)
}

func main() {
	key := []byte(strings.Repeat("k", 32))
	for _, name := range os.Args[1:] {
		token, _ := os.ReadFile(name)
		_, err := jwt.Parse(string(token), func(*jwt.Token) (any, error) { return key, nil })
		say(name, "golang-jwt", err)
		var claims josejwt.Claims
		parsed, _ := josejwt.ParseSigned(string(token), []jose.SignatureAlgorithm{jose.HS256})
		if err = parsed.Claims(key, &claims); err == nil {
			err = claims.Validate(josejwt.Expected{Time: time.Now()})
		}
		say(name, "go-jose", err)
		_, err = jwxjwt.Parse(token, jwxjwt.WithKey(jwa.HS256(), key))
		say(name, "jwx", err)
	}
}
END
cat >Read.java <<'END'
import java.nio.file.*;
import java.util.concurrent.Callable;

class Read {
  static void say(String name, String library, Callable<?> verify) {
    String said = "taken";
    try {
      verify.call();
    } catch (Exception error) {
      said = error.getClass().getSimpleName();
    }
    System.out.println(name + " " + library + ": " + said);
  }

  public static void main(String[] names) throws Exception {
    byte[] secret = "k".repeat(32).getBytes();
    var key = new javax.crypto.spec.SecretKeySpec(secret, "HmacSHA256");
    for (String name : names) {
      String token = Files.readString(Path.of(name));
      var processor = new com.nimbusds.jwt.proc.DefaultJWTProcessor<com.nimbusds.jose.proc.SecurityContext>();
      processor.setJWSKeySelector((header, context) -> java.util.List.of(key));
      say(name, "nimbus", () -> processor.process(token, null));
      say(name, "jjwt", () -> io.jsonwebtoken.Jwts.parser().verifyWith(key).build().parseSignedClaims(token));
      say(name, "jose4j", () -> new org.jose4j.jwt.consumer.JwtConsumerBuilder().setVerificationKey(key).build().processToClaims(token));
      say(name, "java-jwt", () -> com.auth0.jwt.JWT.require(com.auth0.jwt.algorithms.Algorithm.HMAC256(secret)).build().verify(token));
    }
  }
}
END
node make.mjs
names=(253402300799 10000000000000000 9223372036854775807)
{ node read.mjs "${names[@]}"; venv/bin/python read.py "${names[@]}"; go run main.go "${names[@]}"; java -cp 'lib/*' Read.java "${names[@]}" 2>/dev/null; } | sort -n -s -k1,1 >seen
expect 'a token whose exp is the largest int64 "has expired" for golang-jwt, nimbus and jjwt' <<'END'
253402300799 jose: taken
253402300799 PyJWT: taken
253402300799 joserfc: taken
253402300799 golang-jwt: taken
253402300799 go-jose: taken
253402300799 jwx: taken
253402300799 nimbus: taken
253402300799 jjwt: taken
253402300799 jose4j: taken
253402300799 java-jwt: taken
10000000000000000 jose: taken
10000000000000000 PyJWT: taken
10000000000000000 joserfc: taken
10000000000000000 golang-jwt: taken
10000000000000000 go-jose: taken
10000000000000000 jwx: taken
10000000000000000 nimbus: ExpiredJWTException
10000000000000000 jjwt: ExpiredJwtException
10000000000000000 jose4j: taken
10000000000000000 java-jwt: taken
9223372036854775807 jose: taken
9223372036854775807 PyJWT: taken
9223372036854775807 joserfc: taken
9223372036854775807 golang-jwt: token is expired
9223372036854775807 go-jose: expected number value to unmarshal NumericDate
9223372036854775807 jwx: NumericDate 9223372036854775807 is out of range for time.Time
9223372036854775807 nimbus: ExpiredJWTException
9223372036854775807 jjwt: ExpiredJwtException
9223372036854775807 jose4j: taken
9223372036854775807 java-jwt: DateTimeException
END
