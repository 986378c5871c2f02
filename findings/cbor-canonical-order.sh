#!/usr/bin/env bash
# cbor2 6.3.0 (Python), cborg 6.1.5 and cbor 10.0.12 (npm), fxamacker/cbor 2.9.4 (Go)
#
# Guess: "canonical" CBOR is the deterministic encoding of RFC 8949 §4.2.1 by now, so the same map gives the same bytes, to hash or to sign, in each language.
# Seen:  canonical=True of cbor2 still sorts keys by length first, as RFC 7049 had it in 2013; encodeCanonical of cbor, cborg (by default) and CoreDetEncOptions of
#        fxamacker sort by bytes. Maps whose keys are short texts, or small whole numbers alone, come out the same, so tests agree; a map with -1 and 100, as
#        COSE keys have, does not. fxamacker's CanonicalEncOptions is cbor2's order.
. "$(dirname "$0")/lib/finding.sh"
pip_install cbor2==6.3.0
npm_install cborg@6.1.5 cbor@10.0.12
go_get github.com/fxamacker/cbor/v2@v2.9.4
cat >encode.py <<'END'
import cbor2
print("cbor2, canonical=True, numbers:", cbor2.dumps({-1: 1, 100: 2, 3: 3}, canonical=True).hex())
print("cbor2, canonical=True, texts:", cbor2.dumps({"bb": 1, "a": 2, "c": 3}, canonical=True).hex())
END
cat >encode.mjs <<'END'
import cbor from 'cbor';
import { encode } from 'cborg';
const maps = { numbers: [[-1, 1], [100, 2], [3, 3]], texts: [['bb', 1], ['a', 2], ['c', 3]] };
for (const [what, entries] of Object.entries(maps)) {
  console.log(`cborg, ${what}: ${Buffer.from(encode(new Map(entries))).toString('hex')}`);
  console.log(`cbor, encodeCanonical, ${what}: ${cbor.encodeCanonical(new Map(entries)).toString('hex')}`);
}
END
cat >main.go <<'END'
package main

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

func main() {
	for _, each := range []struct {
		name    string
		options cbor.EncOptions
	}{{"CoreDetEncOptions", cbor.CoreDetEncOptions()}, {"CanonicalEncOptions", cbor.CanonicalEncOptions()}} {
		mode, _ := each.options.EncMode()
		numbers, _ := mode.Marshal(map[int]int{-1: 1, 100: 2, 3: 3})
		texts, _ := mode.Marshal(map[string]int{"bb": 1, "a": 2, "c": 3})
		fmt.Printf("fxamacker, %s, numbers: %x\nfxamacker, %s, texts: %x\n", each.name, numbers, each.name, texts)
	}
}
END
{ venv/bin/python encode.py; node encode.mjs; go run main.go; } >seen
expect 'canonical=True of cbor2 is the order of 2013, another one than deterministic CBOR elsewhere' <<'END'
cbor2, canonical=True, numbers: a303032001186402
cbor2, canonical=True, texts: a361610261630362626201
cborg, numbers: a303031864022001
cbor, encodeCanonical, numbers: a303031864022001
cborg, texts: a361610261630362626201
cbor, encodeCanonical, texts: a361610261630362626201
fxamacker, CoreDetEncOptions, numbers: a303031864022001
fxamacker, CoreDetEncOptions, texts: a361610261630362626201
fxamacker, CanonicalEncOptions, numbers: a303032001186402
fxamacker, CanonicalEncOptions, texts: a361610261630362626201
END
