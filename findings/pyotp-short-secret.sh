#!/usr/bin/env bash
# pyotp 2.12.1; beside pyotp 2.9.0, otpauth 9.5.2 and oathtool of Debian's oathtool 2.6.7
#
# Guess: a TOTP secret of 16 base32 characters (80 bits: what two-factor pages have shown for years, JBSWY3DPEHPK3PXP of every tutorial) gives the
#        same six digits in every library, and a period of 300 s, as codes sent by mail have it, is a number like another.
# Seen:  pyotp 2.12.1 refuses both when the object is made: below 112 bits and above 120 s, by NIST SP 800-63B-4. Users enrolled with such a
#        secret get a ValueError at their next login after an upgrade. A class attribute (min_secret_length_bits) lowers the first limit, nothing the second.
. "$(dirname "$0")/lib/finding.sh"
apt_install 'oathtool=2.6.7-*'
npm_install otpauth@9.5.2
cat >code.py <<'END'
import pyotp, sys
version = sys.argv[1]
for secret, interval in (("JBSWY3DPEHPK3PXP", 30), ("JBSWY3DPEHPK3PXPJBSWY3DP", 30), ("JBSWY3DPEHPK3PXPJBSWY3DP", 300)):
    try:
        print(f"pyotp {version}, {len(secret) * 5} bits, {interval} s:", pyotp.TOTP(secret, interval=interval).at(59))
    except ValueError as error:
        print(f"pyotp {version}, {len(secret) * 5} bits, {interval} s:", error)
END
cat >code.mjs <<'END'
import { TOTP } from 'otpauth';
for (const [secret, period] of [['JBSWY3DPEHPK3PXP', 30], ['JBSWY3DPEHPK3PXPJBSWY3DP', 30], ['JBSWY3DPEHPK3PXPJBSWY3DP', 300]])
  console.log(`otpauth, ${secret.length * 5} bits, ${period} s: ${new TOTP({ secret, period }).generate({ timestamp: 59_000 })}`);
END
{
  for version in 2.9.0 2.12.1; do
    pip_install "pyotp==$version"
    venv/bin/python code.py "$version"
  done
  node code.mjs
  echo "oathtool, 80 bits, 30 s: $(oathtool --totp --base32 --now '1970-01-01 00:00:59 UTC' JBSWY3DPEHPK3PXP)"
} >seen
expect 'pyotp refuses the customary 80-bit secret, and periods above two minutes' <<'END'
pyotp 2.9.0, 80 bits, 30 s: 996554
pyotp 2.9.0, 120 bits, 30 s: 885179
pyotp 2.9.0, 120 bits, 300 s: 781680
pyotp 2.12.1, 80 bits, 30 s: Secrets must be at least 112 bits after decoding
pyotp 2.12.1, 120 bits, 30 s: 885179
pyotp 2.12.1, 120 bits, 300 s: interval must be positive and at most 120 seconds
otpauth, 80 bits, 30 s: 996554
otpauth, 120 bits, 30 s: 885179
otpauth, 120 bits, 300 s: 781680
oathtool, 80 bits, 30 s: 996554
END
