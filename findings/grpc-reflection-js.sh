#!/usr/bin/env bash
# @grpc/reflection 1.0.4 with @grpc/proto-loader 0.8.1 and @grpc/grpc-js 1.14.7; asked by grpcurl 1.9.4
#
# Guess: server reflection by the package of the gRPC project serves any proto file that @grpc/proto-loader has loaded, so `grpcurl list` and `describe` work.
# Seen:  for messages of plain fields. A service with one message that has a map, a `reserved` number or a google.protobuf.Timestamp cannot be listed, described or called
#        at all: "incorrect implicit map entry name", "reserved ranges has invalid range: 2 to 1", "cannot resolve type google.protobuf.Timestamp". The descriptors are
#        made from the loader's objects, not from protoc. keepCase changes nothing. Descriptors made by protoc or buf have none of this.
. "$(dirname "$0")/lib/finding.sh"
npm_install @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1 @grpc/reflection@1.0.4
go_get github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
go build -o grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl
proto() { printf 'syntax = "proto3";\npackage %s;\n%s\nservice S { rpc Get (M) returns (M); }\nmessage M { string a = 1; %s }\n' "$1" "$3" "$2" >"$1.proto"; }
proto plain 'optional string b = 2; repeated int32 c = 3; oneof d { string e = 4; }' ''
proto map 'map<string, uint64> b = 2;' ''
proto reserved 'reserved 2;' ''
proto timestamp 'google.protobuf.Timestamp b = 2;' 'import "google/protobuf/timestamp.proto";'
cat >server.cjs <<'END'
const { Server, ServerCredentials, loadPackageDefinition } = require('@grpc/grpc-js');
const { loadSync } = require('@grpc/proto-loader');
const { ReflectionService } = require('@grpc/reflection');
const name = process.argv[2];
const definition = loadSync(`${name}.proto`, { keepCase: process.argv[3] === 'keepCase' });
const server = new Server();
server.addService(loadPackageDefinition(definition)[name].S.service, { Get: (call, answer) => answer(null, call.request) });
new ReflectionService(definition).addToServer(server);
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_, port) => console.log(port));
END
for name in plain map reserved timestamp; do
  for option in none keepCase; do
    : >port
    node server.cjs $name $option >port 2>/dev/null &
    id=$!
    started+=("$id")
    while [ ! -s port ]; do sleep 0.1; done
    echo "$name, $option: $(./grpcurl -plaintext "127.0.0.1:$(cat port)" list $name.S 2>&1 | sed 's/.*message /message /')"
    kill $id
  done
done >seen
expect 'reflection by @grpc/reflection fails for every service with a map, a reserved number or a timestamp' <<'END'
plain, none: plain.S.Get
plain, keepCase: plain.S.Get
map, none: message field "map.M.b" is an invalid map: incorrect implicit map entry name
map, keepCase: message field "map.M.b" is an invalid map: incorrect implicit map entry name
reserved, none: message "reserved.M" reserved ranges has invalid range: 2 to 1
reserved, keepCase: message "reserved.M" reserved ranges has invalid range: 2 to 1
timestamp, none: message field "timestamp.M.b" cannot resolve type: "*.google.protobuf.Timestamp" not found
timestamp, keepCase: message field "timestamp.M.b" cannot resolve type: "*.google.protobuf.Timestamp" not found
END
