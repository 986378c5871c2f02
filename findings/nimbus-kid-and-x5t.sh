#!/usr/bin/env bash
# nimbus-jose-jwt 10.10; beside jose4j 0.9.6 and jose 6.2.18
#
# Guess: `kid` in the header of a token finds the key; an `x5t#S256` beside it (as issuers with certificates add) is one more hint, and does no harm
#        when the published JWK has no certificate members.
# Seen:  nimbus wants both to match: the key of that kid is passed over, "Another algorithm expected, or no matching key(s) found". With the
#        older `x5t` in its place the token is taken. jose4j and jose take both.
. "$(dirname "$0")/lib/finding.sh"
maven_get com.nimbusds:nimbus-jose-jwt:10.10 org.bitbucket.b_c:jose4j:0.9.6
npm_install jose@6.2.18
cat >make.mjs <<'END'
import { createHash, generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { SignJWT, createLocalJWKSet, jwtVerify } from 'jose';
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const keys = { keys: [{ ...pair.publicKey.export({ format: 'jwk' }), kid: 'k1', alg: 'ES256', use: 'sig' }] };
writeFileSync('keys.json', JSON.stringify(keys));
const headers = {
  'kid alone': {},
  'kid and x5t': { x5t: createHash('sha1').update('a certificate').digest('base64url') },
  'kid and x5t#S256': { 'x5t#S256': createHash('sha256').update('a certificate').digest('base64url') },
};
for (const [name, header] of Object.entries(headers)) {
  const token = await new SignJWT({ sub: 'me' }).setProtectedHeader({ alg: 'ES256', kid: 'k1', ...header }).setExpirationTime('1h').sign(pair.privateKey);
  writeFileSync(name, token);
  await jwtVerify(token, createLocalJWKSet(keys));
  console.log(`jose, ${name}: taken`);
}
END
cat >Read.java <<'END'
import java.nio.file.*;

class Read {
  public static void main(String[] names) throws Exception {
    String text = Files.readString(Path.of("keys.json"));
    for (String name : names) {
      String token = Files.readString(Path.of(name));
      var find = new org.jose4j.keys.resolvers.JwksVerificationKeyResolver(new org.jose4j.jwk.JsonWebKeySet(text).getJsonWebKeys());
      new org.jose4j.jwt.consumer.JwtConsumerBuilder().setVerificationKeyResolver(find).build().processToClaims(token);
      System.out.println("jose4j, " + name + ": taken");
      var processor = new com.nimbusds.jwt.proc.DefaultJWTProcessor<com.nimbusds.jose.proc.SecurityContext>();
      var keys = new com.nimbusds.jose.jwk.source.ImmutableJWKSet<>(com.nimbusds.jose.jwk.JWKSet.parse(text));
      processor.setJWSKeySelector(new com.nimbusds.jose.proc.JWSVerificationKeySelector<>(com.nimbusds.jose.JWSAlgorithm.ES256, keys));
      try {
        processor.process(token, null);
        System.out.println("nimbus, " + name + ": taken");
      } catch (Exception error) {
        System.out.println("nimbus, " + name + ": " + error.getMessage());
      }
    }
  }
}
END
{ node make.mjs; java -cp 'lib/*' Read.java 'kid alone' 'kid and x5t' 'kid and x5t#S256' 2>/dev/null; } >seen
expect 'nimbus does not find a key by kid when the token also carries x5t#S256' <<'END'
jose, kid alone: taken
jose, kid and x5t: taken
jose, kid and x5t#S256: taken
jose4j, kid alone: taken
nimbus, kid alone: taken
jose4j, kid and x5t: taken
nimbus, kid and x5t: taken
jose4j, kid and x5t#S256: taken
nimbus, kid and x5t#S256: Signed JWT rejected: Another algorithm expected, or no matching key(s) found
END
