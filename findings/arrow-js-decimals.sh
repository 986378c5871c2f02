#!/usr/bin/env bash
# apache-arrow 21.2.0 (npm), reading what pyarrow 26.0.1 wrote
#
# Guess: a column of decimals reads the same at each width that Arrow has: 32, 64, 128 and 256 bits; String(value) is the unscaled number.
# Seen:  with 256 bits 1.50 is "0" and -1.50 is "-0", while 0.01 is "1", as it should be; with 64 bits -1.50 is "18446744073709551466". 32 and 128 bits are right. No
#        error anywhere. pyarrow picks 128 bits for Decimal by itself, so that the others appear with data of a database, or to save space.
. "$(dirname "$0")/lib/finding.sh"
npm_install apache-arrow@21.2.0
pip_install pyarrow==26.0.1
cat >write.py <<'END'
import decimal, pyarrow
kinds = {32: pyarrow.decimal32(5, 2), 64: pyarrow.decimal64(15, 2), 128: pyarrow.decimal128(20, 2), 256: pyarrow.decimal256(40, 2)}
for bits, kind in kinds.items():
    table = pyarrow.table({"x": pyarrow.array([decimal.Decimal(text) for text in ("1.50", "-1.50", "0.01")], kind)})
    with pyarrow.ipc.new_file(f"{bits}.arrow", table.schema) as file:
        file.write_table(table)
END
cat >read.mjs <<'END'
import { readFileSync } from 'node:fs';
import { tableFromIPC } from 'apache-arrow';
for (const bits of [32, 64, 128, 256]) console.log(`${bits} bits, 1.50 -1.50 0.01:`, [...tableFromIPC(readFileSync(`${bits}.arrow`)).getChild('x')].map(String).join(' '));
END
venv/bin/python write.py
node read.mjs >seen
expect 'apache-arrow in JavaScript reads 1.50 of 256 bits as 0, and negative decimals of 64 bits as huge' <<'END'
32 bits, 1.50 -1.50 0.01: 150 -150 1
64 bits, 1.50 -1.50 0.01: 150 18446744073709551466 1
128 bits, 1.50 -1.50 0.01: 150 -150 1
256 bits, 1.50 -1.50 0.01: 0 -0 1
END
