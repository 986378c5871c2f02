#!/usr/bin/env bash
# apache-arrow 21.2.0 (npm), reading what pyarrow 26.0.1 wrote
#
# Guess: the two libraries of one project read each other's files as they come by default: pyarrow.feather.write_feather(table, file), then tableFromIPC(file).
# Seen:  "Record batch is compressed but codec not found": write_feather compresses with LZ4 by default, and the JavaScript library has no codec of
#        its own, neither LZ4 nor Zstandard; compressionRegistry wants one from elsewhere. The other way round works.
#        write_feather(…, compression="uncompressed") is read.
. "$(dirname "$0")/lib/finding.sh"
npm_install apache-arrow@21.2.0
pip_install pyarrow==26.0.1
cat >write.py <<'END'
import pyarrow, pyarrow.feather
table = pyarrow.table({"x": [1, 2, 3]})
pyarrow.feather.write_feather(table, "default.feather")
for compression in ("lz4", "zstd", "uncompressed"):
    pyarrow.feather.write_feather(table, compression + ".feather", compression=compression)
END
cat >read.mjs <<'END'
import { readFileSync, writeFileSync } from 'node:fs';
import { tableFromArrays, tableFromIPC, tableToIPC } from 'apache-arrow';
for (const name of ['default', 'lz4', 'zstd', 'uncompressed'])
  try {
    console.log(`${name}: ${tableFromIPC(readFileSync(`${name}.feather`)).getChild('x').toArray()}`);
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
writeFileSync('back.feather', tableToIPC(tableFromArrays({ x: Int32Array.of(1, 2, 3) }), 'file'));
END
venv/bin/python write.py
{ node read.mjs; venv/bin/python -c 'import pyarrow.feather; print("back:", pyarrow.feather.read_table("back.feather")["x"].to_pylist())'; } >seen
expect 'apache-arrow in JavaScript cannot read what write_feather of pyarrow writes by default' <<'END'
default: Record batch is compressed but codec not found
lz4: Record batch is compressed but codec not found
zstd: Record batch is compressed but codec not found
uncompressed: 1,2,3
back: [1, 2, 3]
END
