#!/usr/bin/env bash
# @grpc/grpc-js 1.14.7 as server, grpcio 1.85.3 as client (and as server, for comparison)
#
# Guess: metadata that a client sends arrives: two values of a key are two values, and a value that begins or ends with a space comes with or without it (the
#        gRPC specification lets implementations strip it).
# Seen:  a grpc-js server gets two text values of a key as one, joined by ", " (binary ones as two), so a value with a comma in it cannot be told from two. A
#        value with a space at its start or end is not there at all: no entry, no error on either side.
. "$(dirname "$0")/lib/finding.sh"
npm_install @grpc/grpc-js@1.14.7
pip_install grpcio==1.85.3
cat >server.cjs <<'END'
const { Server, ServerCredentials } = require('@grpc/grpc-js');
const same = bytes => bytes;
const Show = { path: '/test.Test/Show', requestStream: false, responseStream: false, requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const server = new Server();
server.addService({ Show }, {
  Show: ({ metadata, request }, answer) => answer(null, Buffer.from(JSON.stringify(metadata.get(String(request)).map(value => (typeof value === 'string' ? value : value.toString('hex')))))),
});
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_, port) => console.log(port));
END
cat >server.py <<'END'
import json, grpc
from concurrent.futures import ThreadPoolExecutor
def show(request, context):
    values = [value for key, value in context.invocation_metadata() if key == request.decode()]
    return json.dumps([value if isinstance(value, str) else value.hex() for value in values], separators=(",", ":")).encode()
server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Show": grpc.unary_unary_rpc_method_handler(show)}),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
END
cat >client.py <<'END'
import grpc
for name in ("grpcio", "grpc-js"):
    port = open(name + ".port").read().strip()
    show = grpc.insecure_channel("127.0.0.1:" + port).unary_unary("/test.Test/Show")
    for key, values in (("twice", ["a", "b"]), ("comma", ["a, b"]), ("twice-bin", [b"\x01", b"\x02"]), ("before", [" a"]), ("after", ["a "]), ("inside", ["a b"])):
        print(f"{name} server, sent {values}: got", show(key.encode(), metadata=[(key, value) for value in values]).decode())
END
node server.cjs >grpc-js.port &
started+=("$!")
venv/bin/python server.py >grpcio.port &
started+=("$!")
while [ ! -s grpc-js.port ] || [ ! -s grpcio.port ]; do sleep 0.1; done
venv/bin/python client.py >seen
expect 'a grpc-js server loses metadata values that begin or end with a space, and joins two of a key' <<'END'
grpcio server, sent ['a', 'b']: got ["a","b"]
grpcio server, sent ['a, b']: got ["a, b"]
grpcio server, sent [b'\x01', b'\x02']: got ["01","02"]
grpcio server, sent [' a']: got [" a"]
grpcio server, sent ['a ']: got ["a "]
grpcio server, sent ['a b']: got ["a b"]
grpc-js server, sent ['a', 'b']: got ["a, b"]
grpc-js server, sent ['a, b']: got ["a, b"]
grpc-js server, sent [b'\x01', b'\x02']: got ["01","02"]
grpc-js server, sent [' a']: got []
grpc-js server, sent ['a ']: got []
grpc-js server, sent ['a b']: got ["a b"]
END
