#!/usr/bin/env bash
# joserfc 1.8.0; beside PyJWT 2.15.1 and jwcrypto 1.6.1
#
# Guess: a header parameter that a verifier does not know is ignored unless `crit` names it (RFC 7515 §4: "MUST be ignored"), and `iss`, `sub` and `aud` may
#        be repeated in the header (RFC 7519 §5.3 registers them). So `jwt.decode` of joserfc takes such tokens, as it takes unknown claims.
# Seen:  it refuses both, "Unsupported {'iss'} in header". The same for `nonce`, which tokens of some large identity services carry, unless the
#        caller makes a registry with strict_check_header=False. PyJWT and jwcrypto take them.
. "$(dirname "$0")/lib/finding.sh"
pip_install joserfc==1.8.0 PyJWT==2.15.1 jwcrypto==1.6.1 cryptography==50.0.2
cat >read.py <<'END'
import jwt as pyjwt
from joserfc import jws, jwt
from joserfc.jwk import OctKey
from jwcrypto import jwk, jwt as jwcrypto_jwt
secret = "k" * 32
for extra in ({}, {"iss": "https://issuer.example"}, {"nonce": "a"}, {"x": 1}):
    token = pyjwt.encode({"sub": "me"}, secret, headers=extra)
    pyjwt.decode(token, secret, algorithms=["HS256"])
    jwcrypto_jwt.JWT(jwt=token, key=jwk.JWK(kty="oct", k="a2tr" * 10 + "a2s"), algs=["HS256"])
    key = OctKey.import_key(secret)
    lenient = jws.JWSRegistry(algorithms=["HS256"], strict_check_header=False)
    jwt.decode(token, key, registry=lenient)
    try:
        jwt.decode(token, key, algorithms=["HS256"])
        print(f"joserfc, {extra}: taken")
    except Exception as error:
        print(f"joserfc, {extra}: {error}")
END
venv/bin/python read.py >seen
expect 'joserfc refuses a token for any header parameter it does not know' <<'END'
joserfc, {}: taken
joserfc, {'iss': 'https://issuer.example'}: unsupported_header: Unsupported {'iss'} in header
joserfc, {'nonce': 'a'}: unsupported_header: Unsupported {'nonce'} in header
joserfc, {'x': 1}: unsupported_header: Unsupported {'x'} in header
END
