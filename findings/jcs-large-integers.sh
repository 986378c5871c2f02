#!/usr/bin/env bash
# RFC 8785 (JSON canonicalization) by jcs 0.2.1 and rfc8785 0.1.4 (Python), gowebpki/jcs 1.0.2 (Go), canonicalize 4.0.0 (npm); beside canonicaljson 2.0.0 (Python)
#
# Guess: canonicalizing a document changes its form and not what it says: an id of 64 bits in it comes out with its own digits, or is refused.
# Seen:  jcs in Python, where whole numbers have any size, and gowebpki/jcs write 18446744073709551615 as 18446744073709552000 and 9007199254740993 as ...992: the
#        canonical text, and what is signed, has another number. rfc8785 alone refuses. The RFC defines numbers as doubles and wants larger ones as text,
#        so the digits are right by its letter. canonicaljson, with the same aim, keeps the digits and has another order of keys (by code point).
. "$(dirname "$0")/lib/finding.sh"
pip_install jcs==0.2.1 rfc8785==0.1.4 canonicaljson==2.0.0
npm_install canonicalize@4.0.0
go_get github.com/gowebpki/jcs@v1.0.2
cat >write.py <<'END'
import canonicaljson, jcs, json, rfc8785
for text in ('{"id":18446744073709551615}', '{"id":9007199254740993}', '{"\\uffff":1,"\\ud800\\udc00":2}'):
    for name, write in (("jcs", jcs.canonicalize), ("rfc8785", rfc8785.dumps), ("canonicaljson", canonicaljson.encode_canonical_json)):
        try:
            print(f"{name}, {text}: {ascii(write(json.loads(text)).decode())}")
        except rfc8785.CanonicalizationError as error:
            print(f"{name}, {text}: {error}")
END
cat >write.mjs <<'END'
import canonicalize from 'canonicalize';
for (const text of ['{"id":18446744073709551615}', '{"id":9007199254740993}']) console.log(`canonicalize, ${text}: ${canonicalize(JSON.parse(text))}`);
END
cat >main.go <<'END'
package main

import (
	"fmt"

	"github.com/gowebpki/jcs"
)

func main() {
	for _, text := range []string{`{"id":18446744073709551615}`, `{"id":9007199254740993}`} {
		written, err := jcs.Transform([]byte(text))
		fmt.Println("gowebpki/jcs,", text+":", string(written), err)
	}
}
END
{ venv/bin/python write.py; node write.mjs; go run main.go; } >seen
expect 'canonical JSON of an id of 64 bits has other digits, except where it is refused' <<'END'
jcs, {"id":18446744073709551615}: '{"id":18446744073709552000}'
rfc8785, {"id":18446744073709551615}: 18446744073709551615 exceeds safe integer domain for JSON floats
canonicaljson, {"id":18446744073709551615}: '{"id":18446744073709551615}'
jcs, {"id":9007199254740993}: '{"id":9007199254740992}'
rfc8785, {"id":9007199254740993}: 9007199254740993 exceeds safe integer domain for JSON floats
canonicaljson, {"id":9007199254740993}: '{"id":9007199254740993}'
jcs, {"\uffff":1,"\ud800\udc00":2}: '{"\U00010000":2,"\uffff":1}'
rfc8785, {"\uffff":1,"\ud800\udc00":2}: '{"\U00010000":2,"\uffff":1}'
canonicaljson, {"\uffff":1,"\ud800\udc00":2}: '{"\uffff":1,"\U00010000":2}'
canonicalize, {"id":18446744073709551615}: {"id":18446744073709552000}
canonicalize, {"id":9007199254740993}: {"id":9007199254740992}
gowebpki/jcs, {"id":18446744073709551615}: {"id":18446744073709552000} <nil>
gowebpki/jcs, {"id":9007199254740993}: {"id":9007199254740992} <nil>
END
