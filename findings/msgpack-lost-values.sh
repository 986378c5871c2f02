#!/usr/bin/env bash
# @msgpack/msgpack 3.1.3 and msgpackr 2.1.4, read by msgpack 1.2.4 (Python)
#
# Guess: an encoder of MessagePack that cannot write a value of JavaScript throws, and a property that is undefined is left out, as JSON has it.
# Seen:  @msgpack/msgpack writes a Map, a Set and an ArrayBuffer as an empty map, without an error: what was in it is gone. It writes undefined as nil;
#        msgpackr writes it as extension type 0, which Python sees as ExtType(code=0, data=b'\x00') where a value or nothing was expected.
. "$(dirname "$0")/lib/finding.sh"
npm_install @msgpack/msgpack@3.1.3 msgpackr@2.1.4
pip_install msgpack==1.2.4
cat >write.mjs <<'END'
import { encode } from '@msgpack/msgpack';
import { pack } from 'msgpackr';
const values = {
  Map: new Map([['a', 1]]),
  Set: new Set([1, 2]),
  ArrayBuffer: new Uint8Array([1, 2]).buffer,
  Uint8Array: new Uint8Array([1, 2]),
  'an undefined property': { a: undefined, b: 1 },
};
for (const [what, value] of Object.entries(values))
  for (const [name, write] of Object.entries({ '@msgpack/msgpack': encode, msgpackr: pack })) console.log(`${name}\t${what}\t${Buffer.from(write(value)).toString('hex')}`);
END
cat >read.py <<'END'
import msgpack, sys
for line in sys.stdin:
    name, what, text = line.rstrip("\n").split("\t")
    print(f"{name}, {what}: Python reads {msgpack.unpackb(bytes.fromhex(text), strict_map_key=False)}")
END
node write.mjs | venv/bin/python read.py >seen
expect '@msgpack/msgpack writes a Map as an empty map, and msgpackr undefined as an extension type' <<'END'
@msgpack/msgpack, Map: Python reads {}
msgpackr, Map: Python reads {'a': 1}
@msgpack/msgpack, Set: Python reads {}
msgpackr, Set: Python reads [1, 2]
@msgpack/msgpack, ArrayBuffer: Python reads {}
msgpackr, ArrayBuffer: Python reads b'\x01\x02'
@msgpack/msgpack, Uint8Array: Python reads b'\x01\x02'
msgpackr, Uint8Array: Python reads b'\x01\x02'
@msgpack/msgpack, an undefined property: Python reads {'a': None, 'b': 1}
msgpackr, an undefined property: Python reads {'a': ExtType(code=0, data=b'\x00'), 'b': 1}
END
