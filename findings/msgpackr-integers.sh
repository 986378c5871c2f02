#!/usr/bin/env bash
# msgpackr 2.1.4 and cbor-x 1.6.9; read by msgpack 1.2.4 and cbor2 6.3.0 (Python), vmihailenco/msgpack 5.4.1 and fxamacker/cbor 2.9.4 (Go); beside @msgpack/msgpack 3.1.3, cborg 6.1.5
#
# Guess: a whole number that JavaScript holds exactly travels as an integer, at least up to 2^53: Date.now() or an id of 40 bits is an int in Python and fits a
#        uint64 field in Go.
# Seen:  msgpackr and cbor-x write every number from 2^32 on as a float64. Python gets 1700000000000.0, and vmihailenco/msgpack refuses it for a uint64 field
#        ("invalid code=cb decoding uint64"). Numbers below 2^32 stay integers, so tests with small ids pass. @msgpack/msgpack and cborg write
#        integers; a BigInt makes the first two do so as well.
. "$(dirname "$0")/lib/finding.sh"
npm_install msgpackr@2.1.4 cbor-x@1.6.9 @msgpack/msgpack@3.1.3 cborg@6.1.5
pip_install msgpack==1.2.4 cbor2==6.3.0
go_get github.com/vmihailenco/msgpack/v5@v5.4.1 github.com/fxamacker/cbor/v2@v2.9.4
cat >write.mjs <<'END'
import { writeFileSync } from 'node:fs';
import { encode as msgpack } from '@msgpack/msgpack';
import { encode as cborg } from 'cborg';
import { encode as cborX } from 'cbor-x';
import { pack as msgpackr } from 'msgpackr';
const values = { small: 4_294_967_295, large: 4_294_967_296, time: 1_700_000_000_000 };
const writers = { 'msgpack.@msgpack': msgpack, 'msgpack.msgpackr': msgpackr, 'cbor.cborg': cborg, 'cbor.cbor-x': cborX };
for (const [name, encode] of Object.entries(writers)) for (const [what, N] of Object.entries(values)) writeFileSync(`${name}.${what}`, encode({ N }));
END
cat >read.py <<'END'
import cbor2, glob, msgpack
for name in sorted(glob.glob("cbor.*") + glob.glob("msgpack.*")):
    read = cbor2.loads if name.startswith("cbor.") else msgpack.unpackb
    print(f"Python, {name}: {read(open(name, 'rb').read())['N']!r}")
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/vmihailenco/msgpack/v5"
)

func main() {
	names, _ := filepath.Glob("*.*.*")
	for _, name := range names {
		if !strings.HasPrefix(name, "cbor.") && !strings.HasPrefix(name, "msgpack.") {
			continue
		}
		text, _ := os.ReadFile(name)
		var value struct{ N uint64 }
		read := msgpack.Unmarshal
		if strings.HasPrefix(name, "cbor.") {
			read = cbor.Unmarshal
		}
		if err := read(text, &value); err != nil {
			fmt.Printf("Go, %s: %v\n", name, err)
		} else {
			fmt.Printf("Go, %s: %d\n", name, value.N)
		}
	}
}
END
node write.mjs
{ venv/bin/python read.py; go run main.go; } >seen
expect 'msgpackr and cbor-x write whole numbers from 2^32 on as floats' <<'END'
Python, cbor.cbor-x.large: 4294967296.0
Python, cbor.cbor-x.small: 4294967295
Python, cbor.cbor-x.time: 1700000000000.0
Python, cbor.cborg.large: 4294967296
Python, cbor.cborg.small: 4294967295
Python, cbor.cborg.time: 1700000000000
Python, msgpack.@msgpack.large: 4294967296
Python, msgpack.@msgpack.small: 4294967295
Python, msgpack.@msgpack.time: 1700000000000
Python, msgpack.msgpackr.large: 4294967296.0
Python, msgpack.msgpackr.small: 4294967295
Python, msgpack.msgpackr.time: 1700000000000.0
Go, cbor.cbor-x.large: cbor: cannot unmarshal primitives into Go struct field struct { N uint64 }.N of type uint64
Go, cbor.cbor-x.small: 4294967295
Go, cbor.cbor-x.time: cbor: cannot unmarshal primitives into Go struct field struct { N uint64 }.N of type uint64
Go, cbor.cborg.large: 4294967296
Go, cbor.cborg.small: 4294967295
Go, cbor.cborg.time: 1700000000000
Go, msgpack.@msgpack.large: 4294967296
Go, msgpack.@msgpack.small: 4294967295
Go, msgpack.@msgpack.time: 1700000000000
Go, msgpack.msgpackr.large: msgpack: invalid code=cb decoding uint64
Go, msgpack.msgpackr.small: 4294967295
Go, msgpack.msgpackr.time: msgpack: invalid code=cb decoding uint64
END
