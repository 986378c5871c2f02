#!/usr/bin/env bash
# jjwt 0.13.0 (jjwt-jackson)
#
# Guess: a key set that lists one public key under two kids (while an issuer moves to thumbprints as key ids) is read as two entries.
# Seen:  jjwt's JwkSet holds one: two JWKs are equal when their key parts are, kid is not looked at, and the later entry is dropped without a word.
#        Tokens that name the second kid cannot be verified; which kid survives depends on the order in the document.
. "$(dirname "$0")/lib/finding.sh"
maven_get io.jsonwebtoken:jjwt-api:0.13.0 io.jsonwebtoken:jjwt-impl:0.13.0 io.jsonwebtoken:jjwt-jackson:0.13.0
cat >Read.java <<'END'
import io.jsonwebtoken.Jwts;
import io.jsonwebtoken.security.Jwk;
import io.jsonwebtoken.security.Jwks;
import java.util.stream.Collectors;

class Read {
  public static void main(String[] arguments) {
    for (var pair : new java.security.KeyPair[] {Jwts.SIG.ES256.keyPair().build(), Jwts.SIG.RS256.keyPair().build(), Jwts.SIG.EdDSA.keyPair().build()}) {
      String key = Jwks.UNSAFE_JSON(Jwks.builder().key(pair.getPublic()).build());
      String before = key.substring(0, key.length() - 1);
      for (String[] kids : new String[][] {{"old", "new"}, {"new", "old"}}) {
        String set = "{\"keys\":[" + before + ",\"kid\":\"" + kids[0] + "\"}," + before + ",\"kid\":\"" + kids[1] + "\"}]}";
        var found = Jwks.setParser().build().parse(set).getKeys().stream().map(Jwk::getId).collect(Collectors.joining(" "));
        System.out.println(pair.getPublic().getAlgorithm() + ", listed " + kids[0] + " " + kids[1] + ": read " + found);
      }
    }
  }
}
END
java -cp 'lib/*' Read.java >seen
expect 'jjwt drops the second entry of a key set when it is the same key under another kid' <<'END'
EC, listed old new: read old
EC, listed new old: read new
RSA, listed old new: read old
RSA, listed new old: read new
EdDSA, listed old new: read old
EdDSA, listed new old: read new
END
