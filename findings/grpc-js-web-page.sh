#!/usr/bin/env bash
# @grpc/grpc-js 1.14.7 as client; beside grpcio 1.85.3 and grpc-go 1.85.0
#
# Guess: a gRPC client that reaches a web page instead (a portal, a login page, a proxy's error with status 200) says that the answer is no gRPC: UNKNOWN with the
#        content type in the text, as the specification has it.
# Seen:  grpc-js does not look at the content type and reads the page as a frame: RESOURCE_EXHAUSTED "Received message larger than max (558124867 vs 4194304)", the
#        number being the letters "!DOC". With a larger limit, as the message suggests, it waits for half a gigabyte. grpc-go names text/html; grpcio says UNKNOWN.
. "$(dirname "$0")/lib/finding.sh"
npm_install @grpc/grpc-js@1.14.7
pip_install grpcio==1.85.3
go_get google.golang.org/grpc@v1.85.0
cat >server.mjs <<'END'
import { createServer } from 'node:http2';
const server = createServer((_, response) => {
  response.writeHead(200, { 'content-type': 'text/html' });
  response.end('<!DOCTYPE html><title>Please log in</title>');
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
END
cat >client.cjs <<'END'
const { Client, credentials, status } = require('@grpc/grpc-js');
const same = bytes => bytes;
const client = new Client(`127.0.0.1:${process.argv[2]}`, credentials.createInsecure());
client.makeUnaryRequest('/test.Test/Ask', same, same, Buffer.of(), error => {
  console.log(`grpc-js: ${status[error.code]}: ${error.details}`);
  process.exit();
});
END
cat >client.py <<'END'
import grpc, sys
try:
    grpc.insecure_channel("127.0.0.1:" + sys.argv[1]).unary_unary("/test.Test/Ask")(b"")
except grpc.RpcError as error:
    print(f"grpcio: {error.code().name}: {error.details()}")
END
cat >main.go <<'END'
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	connection, _ := grpc.NewClient("127.0.0.1:"+os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	said, _ := status.FromError(connection.Invoke(context.Background(), "/test.Test/Ask", &emptypb.Empty{}, &emptypb.Empty{}))
	fmt.Printf("grpc-go: %v, names text/html: %v\n", said.Code(), strings.Contains(said.Message(), "text/html"))
}
END
node server.mjs >port &
started+=("$!")
while [ ! -s port ]; do sleep 0.1; done
{ node client.cjs "$(cat port)"; venv/bin/python client.py "$(cat port)"; go run main.go "$(cat port)"; } >seen
expect 'to grpc-js a web page is a message that is too large' <<'END'
grpc-js: RESOURCE_EXHAUSTED: Received message larger than max (558124867 vs 4194304)
grpcio: UNKNOWN: Stream removed (Data frame with END_STREAM flag received)
grpc-go: Unknown, names text/html: true
END
