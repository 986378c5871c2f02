#!/usr/bin/env bash
# ecdsa 0.19.2 (PyPI); verified by cryptography 50.0.2
#
# Guess: SigningKey.sign of the package ecdsa hashes as the curve suggests: SHA-256 on P-256, SHA-384 on P-384, as JWS, TLS and SSH pair them.
# Seen:  it hashes with SHA-1 on every curve, unless hashfunc is given, each time or when the key is made or read. The signature (r and s without DER, on top of it) is
#        good for the library itself, and verifies nowhere else as ES256 or ES384.
. "$(dirname "$0")/lib/finding.sh"
pip_install ecdsa==0.19.2 cryptography==50.0.2
cat >sign.py <<'END'
import hashlib
import ecdsa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_pem_public_key
for curve in (ecdsa.NIST256p, ecdsa.NIST384p, ecdsa.NIST521p):
    for options in ({}, {"hashfunc": hashlib.sha256}):
        key = ecdsa.SigningKey.generate(curve=curve, **options)
        signature = key.sign(b"message")
        half = len(signature) // 2
        encoded = utils.encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
        fits = []
        for hash in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
            try:
                load_pem_public_key(key.verifying_key.to_pem()).verify(encoded, b"message", ec.ECDSA(hash))
                fits.append(hash.name)
            except InvalidSignature:
                pass
        print(f"{curve.name}, {'hashfunc given' if options else 'by default'}: {', '.join(fits)}")
END
venv/bin/python -W ignore sign.py >seen
expect 'the package ecdsa signs with SHA-1 on every curve' <<'END'
NIST256p, by default: sha1
NIST256p, hashfunc given: sha256
NIST384p, by default: sha1
NIST384p, hashfunc given: sha256
NIST521p, by default: sha1
NIST521p, hashfunc given: sha256
END
