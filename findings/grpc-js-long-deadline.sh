#!/usr/bin/env bash
# @grpc/grpc-js 1.14.7 as server, grpcio 1.85.3 as client (and as server, for comparison)
#
# Guess: a call with a deadline of thirty days (a watch, a tunnel; some client libraries want a deadline always) is as good as one without: the server answers
#        when it is ready.
# Seen:  from 2^31 ms on (24 days and 20 hours) a grpc-js server ends the call at once with DEADLINE_EXCEEDED, in the same millisecond in which the handler starts: the
#        time-out of the client is cut to 32 bits. The bits wrap, so that 60 and 115 days work (as 10 and 16) and 130 do not. grpcio's server answers all of them.
. "$(dirname "$0")/lib/finding.sh"
npm_install @grpc/grpc-js@1.14.7
pip_install grpcio==1.85.3
cat >server.cjs <<'END'
const { Server, ServerCredentials } = require('@grpc/grpc-js');
const same = bytes => bytes;
const Echo = { path: '/test.Test/Echo', requestStream: false, responseStream: false, requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const server = new Server();
server.addService({ Echo }, { Echo: (call, answer) => setTimeout(() => answer(null, call.request), 200) });
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_, port) => console.log(port));
END
cat >server.py <<'END'
import time, grpc
from concurrent.futures import ThreadPoolExecutor
def echo(request, context):
    time.sleep(0.2)
    return request
server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Echo": grpc.unary_unary_rpc_method_handler(echo)}),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
END
cat >client.py <<'END'
import grpc, sys
for name in ("grpc-js", "grpcio"):
    port = open(name + ".port").read().strip()
    echo = grpc.insecure_channel("127.0.0.1:" + port).unary_unary("/test.Test/Echo")
    for days in (1, 24, 25, 30, 60, 115, 130, 365):
        try:
            print(f"{name}, deadline in {days} days:", echo(b"answered", timeout=days * 86_400).decode())
        except grpc.RpcError as error:
            print(f"{name}, deadline in {days} days:", error.code().name)
END
node server.cjs >grpc-js.port &
started+=("$!")
venv/bin/python server.py >grpcio.port &
started+=("$!")
while [ ! -s grpc-js.port ] || [ ! -s grpcio.port ]; do sleep 0.1; done
venv/bin/python client.py >seen
expect 'a grpc-js server ends a call at once when its deadline is 25 days away' <<'END'
grpc-js, deadline in 1 days: answered
grpc-js, deadline in 24 days: answered
grpc-js, deadline in 25 days: DEADLINE_EXCEEDED
grpc-js, deadline in 30 days: DEADLINE_EXCEEDED
grpc-js, deadline in 60 days: answered
grpc-js, deadline in 115 days: answered
grpc-js, deadline in 130 days: DEADLINE_EXCEEDED
grpc-js, deadline in 365 days: answered
grpcio, deadline in 1 days: answered
grpcio, deadline in 24 days: answered
grpcio, deadline in 25 days: answered
grpcio, deadline in 30 days: answered
grpcio, deadline in 60 days: answered
grpcio, deadline in 115 days: answered
grpcio, deadline in 130 days: answered
grpcio, deadline in 365 days: answered
END
