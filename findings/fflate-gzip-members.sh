#!/usr/bin/env bash
# fflate 0.8.3 (npm) and flate2 1.1.5 (Rust); beside zlib of Node 20, pako 3.0.3, Python 3.11, Go 1.26 and Java 17
#
# Guess: a gzip file of several members (appended to by `>>`, written in parallel, or a BGZF file of genome data) is one file to every reader, as RFC 1952 §2.2 has it; and zero
#        bytes after the end, as tape and block stores leave them, change nothing.
# Seen:  gunzipSync of fflate and GzDecoder of flate2 give the first member and end there, without an error: of BGZF, that is the first 64 KB. fflate's own streaming
#        Gunzip gives all. Eight zero bytes at the end make gunzipSync give nothing at all, length 0, again without an error; its Gunzip throws, and Go's reader
#        gives the data and then an unexpected EOF.
. "$(dirname "$0")/lib/finding.sh"
npm_install fflate@0.8.3 pako@3.0.3
cargo_get flate2@=1.1.5
{ printf 'first ' | gzip -n; printf 'second' | gzip -n; } >two.gz
{ printf 'first' | gzip -n; printf '\0\0\0\0\0\0\0\0'; } >padded.gz
cat >read.mjs <<'END'
import { readFileSync } from 'node:fs';
import { gunzipSync as byZlib } from 'node:zlib';
import { Gunzip, gunzipSync } from 'fflate';
import { ungzip } from 'pako';
const stream = bytes => {
  const parts = [];
  new Gunzip(part => parts.push(part)).push(bytes, true);
  return Buffer.concat(parts);
};
const readers = { 'fflate gunzipSync': gunzipSync, 'fflate Gunzip': stream, pako: ungzip, 'Node zlib': byZlib };
for (const name of ['two', 'padded'])
  for (const [reader, read] of Object.entries(readers))
    try {
      console.log(`${name}, ${reader}: "${Buffer.from(read(readFileSync(`${name}.gz`)))}"`);
    } catch (error) {
      console.log(`${name}, ${reader}: ${error.message}`);
    }
END
cat >Read.java <<'END'
class Read {
  public static void main(String[] arguments) throws Exception {
    for (String name : new String[] {"two", "padded"})
      System.out.println(name + ", Java: \"" + new String(new java.util.zip.GZIPInputStream(new java.io.FileInputStream(name + ".gz")).readAllBytes()) + '"');
  }
}
END
cat >main.go <<'END'
package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
)

func main() {
	for _, name := range []string{"two", "padded"} {
		file, _ := os.Open(name + ".gz")
		reader, _ := gzip.NewReader(file)
		text, err := io.ReadAll(reader)
		fmt.Printf("%s, Go: %q, %v\n", name, text, err)
	}
}
END
cat >src/main.rs <<'END'
use std::io::Read;

fn main() {
    for name in ["two", "padded"] {
        let mut text = String::new();
        let read = flate2::read::GzDecoder::new(std::fs::File::open(format!("{name}.gz")).unwrap()).read_to_string(&mut text);
        println!("{name}, flate2 GzDecoder: {text:?}, {:?}", read.map(|_| ()));
    }
}
END
{
  node read.mjs
  python3 -c '
import gzip
for name in ("two", "padded"):
    print(name + ", Python: \"" + gzip.open(name + ".gz").read().decode() + "\"")'
  java Read.java
  go run main.go
  cargo run --quiet
} >seen
expect 'fflate gives the first member of a gzip file and is silent about the rest' <<'END'
two, fflate gunzipSync: "first "
two, fflate Gunzip: "first second"
two, pako: "first second"
two, Node zlib: "first second"
padded, fflate gunzipSync: ""
padded, fflate Gunzip: invalid gzip data
padded, pako: "first"
padded, Node zlib: "first"
two, Python: "first second"
padded, Python: "first"
two, Java: "first second"
padded, Java: "first"
two, Go: "first second", <nil>
padded, Go: "first", unexpected EOF
two, flate2 GzDecoder: "first ", Ok(())
padded, flate2 GzDecoder: "first", Ok(())
END
