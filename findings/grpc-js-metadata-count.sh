#!/usr/bin/env bash
# @grpc/grpc-js 1.14.7 on Node 20, as server and as client; grpcio 1.85.3 as the other end
#
# Guess: metadata is limited by its size, by default some 8 to 64 KiB; two hundred short entries (labels of a node, one key each) are 2 KB and go through.
# Seen:  Node counts header fields and stops at 128, those of HTTP/2 and gRPC included. With 150 entries of two letters a grpc-js server ends the call before any handler
#        runs: RESOURCE_EXHAUSTED, "RST_STREAM with error code 11"; a grpc-js client that receives as many says "Bandwidth exhausted or memory limit
#        exceeded". Between two ends of grpcio 200 entries pass.
. "$(dirname "$0")/lib/finding.sh"
npm_install @grpc/grpc-js@1.14.7
pip_install grpcio==1.85.3
cat >server.cjs <<'END'
const { Server, ServerCredentials } = require('@grpc/grpc-js');
const same = bytes => bytes;
const Send = { path: '/test.Test/Send', requestStream: false, responseStream: false, requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const server = new Server();
server.addService({ Send }, { Send: (call, answer) => answer(null, call.request) });
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_, port) => console.log(port));
END
cat >server.py <<'END'
import grpc
from concurrent.futures import ThreadPoolExecutor
def send(request, context):
    context.set_trailing_metadata([(f"k{number}", "v") for number in range(int(request or 0))])
    return request
server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Send": grpc.unary_unary_rpc_method_handler(send)}),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
END
cat >client.py <<'END'
import grpc
for name in ("grpcio", "grpc-js"):
    channel = grpc.insecure_channel("127.0.0.1:" + open(name + ".port").read().strip())
    for count in (50, 110, 150, 200):
        try:
            channel.unary_unary("/test.Test/Send")(b"", metadata=[(f"k{number}", "v") for number in range(count)])
            print(f"{name} server, {count} entries sent: answered")
        except grpc.RpcError as error:
            print(f"{name} server, {count} entries sent: {error.code().name}: {error.details()}")
END
cat >client.cjs <<'END'
const { Client, credentials, status } = require('@grpc/grpc-js');
const same = bytes => bytes;
const client = new Client(`127.0.0.1:${process.argv[2]}`, credentials.createInsecure());
(async () => {
  for (const count of [50, 110, 150, 200])
    await new Promise(resolve =>
      client.makeUnaryRequest('/test.Test/Send', same, same, Buffer.from(String(count)), error => {
        console.log(`grpc-js client, ${count} entries received: ${error ? `${status[error.code]}: ${error.details}` : 'answered'}`);
        resolve();
      }),
    );
  process.exit();
})();
END
node server.cjs >grpc-js.port &
started+=("$!")
venv/bin/python server.py >grpcio.port &
started+=("$!")
while [ ! -s grpc-js.port ] || [ ! -s grpcio.port ]; do sleep 0.1; done
{ venv/bin/python client.py; node client.cjs "$(cat grpcio.port)"; } >seen
expect 'grpc-js takes no more than some 115 entries of metadata, however short' <<'END'
grpcio server, 50 entries sent: answered
grpcio server, 110 entries sent: answered
grpcio server, 150 entries sent: answered
grpcio server, 200 entries sent: answered
grpc-js server, 50 entries sent: answered
grpc-js server, 110 entries sent: answered
grpc-js server, 150 entries sent: RESOURCE_EXHAUSTED: Stream removed (RST_STREAM (Received RST_STREAM with error code 11))
grpc-js server, 200 entries sent: RESOURCE_EXHAUSTED: Stream removed (RST_STREAM (Received RST_STREAM with error code 11))
grpc-js client, 50 entries received: answered
grpc-js client, 110 entries received: answered
grpc-js client, 150 entries received: RESOURCE_EXHAUSTED: Bandwidth exhausted or memory limit exceeded
grpc-js client, 200 entries received: RESOURCE_EXHAUSTED: Bandwidth exhausted or memory limit exceeded
END
