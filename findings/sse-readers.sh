#!/usr/bin/env bash
# r3labs/sse 2.10.0, tmaxmax/go-sse 0.12.0, httpx-sse 0.4.3, sseclient-py 1.9.0, eventsource 4.1.1
#
# Guess: readers of text/event-stream differ in comfort, not in what an event is: a line may be long, a byte order mark at the start is dropped, an event that
#        was cut off is not delivered, and neither is a block without data (the standard says each of these).
# Seen:  an event of 70,000 bytes is nothing at all to r3labs/sse (no error) and an error to go-sse; a byte order mark costs httpx-sse, sseclient-py and r3labs the
#        first event; sseclient-py and r3labs deliver the cut-off half of an event as a whole one; httpx-sse, go-sse and r3labs deliver "id: 5" alone as an
#        empty message, and r3labs leaves out an event whose data is empty. Only eventsource has all five right.
. "$(dirname "$0")/lib/finding.sh"
npm_install eventsource@4.1.1
pip_install httpx-sse==0.4.3 httpx==0.28.1 sseclient-py==1.9.0 requests==2.34.2
go_get github.com/r3labs/sse/v2@v2.10.0 github.com/tmaxmax/go-sse@v0.12.0 gopkg.in/cenkalti/backoff.v1@v1.1.0
cat >server.mjs <<'END'
import { createServer } from 'node:http';
const bodies = {
  long: `data: ${'x'.repeat(70_000)}\n\ndata: end\n\n`,
  mark: '\ufeffdata: a\n\ndata: end\n\n',
  cut: 'data: a\n\ndata: "is ca',
  'id alone': 'id: 5\n\ndata: end\n\n',
  empty: 'data:\n\ndata: end\n\n',
};
const server = createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.end(bodies[decodeURIComponent(request.url.slice(1))]);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
END
cat >by-eventsource.mjs <<'END'
import { EventSource } from 'eventsource';
for (const name of process.argv.slice(3)) {
  const seen = [];
  await new Promise(resolve => {
    const source = new EventSource(`http://127.0.0.1:${process.argv[2]}/${encodeURIComponent(name)}`);
    source.onmessage = ({ data }) => seen.push(data.length > 99 ? data.length : data);
    source.onerror = () => resolve(source.close());
  });
  console.log(`${name}, eventsource: ${JSON.stringify(seen)}`);
}
process.exit();
END
cat >by-python.py <<'END'
import json, sys
from urllib.parse import quote
import httpx, httpx_sse, requests, sseclient
short = lambda data: len(data) if len(data) > 99 else data
for name in sys.argv[2:]:
    address = f"http://127.0.0.1:{sys.argv[1]}/{quote(name)}"
    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", address) as source:
        print(f"{name}, httpx-sse:", json.dumps([short(event.data) for event in source.iter_sse()], separators=(",", ":")))
    events = sseclient.SSEClient(requests.get(address, stream=True)).events()
    print(f"{name}, sseclient-py:", json.dumps([short(event.data) for event in events], separators=(",", ":")))
END
cat >main.go <<'END'
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	r3labs "github.com/r3labs/sse/v2"
	"github.com/tmaxmax/go-sse"
	"gopkg.in/cenkalti/backoff.v1"
)

func short(data string) any {
	if len(data) > 99 {
		return len(data)
	}
	return data
}

func say(name, library string, seen []any) {
	text, _ := json.Marshal(seen)
	fmt.Printf("%s, %s: %s\n", name, library, text)
}

func main() {
	for _, name := range os.Args[2:] {
		address := "http://127.0.0.1:" + os.Args[1] + "/" + url.PathEscape(name)
		seen := []any{}
		client := r3labs.NewClient(address)
		client.ReconnectStrategy = &backoff.StopBackOff{}
		limited, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		client.SubscribeRawWithContext(limited, func(event *r3labs.Event) { seen = append(seen, short(string(event.Data))) })
		cancel()
		say(name, "r3labs/sse", seen)
		seen = []any{}
		response, err := http.Get(address)
		if err != nil {
			panic(err)
		}
		for event, err := range sse.Read(response.Body, nil) {
			if err != nil {
				seen = append(seen, err.Error())
				break
			}
			seen = append(seen, short(event.Data))
		}
		say(name, "go-sse", seen)
	}
}
END
node server.mjs >port &
started+=("$!")
while [ ! -s port ]; do sleep 0.1; done
names=(long mark cut 'id alone' empty)
{ node by-eventsource.mjs "$(cat port)" "${names[@]}"; venv/bin/python by-python.py "$(cat port)" "${names[@]}"; go run main.go "$(cat port)" "${names[@]}"; } | sort -s -t, -k1,1 >seen
expect 'to r3labs/sse an event of 70,000 bytes does not exist; four of five readers of event streams differ from the standard' <<'END'
cut, eventsource: ["a"]
cut, httpx-sse: ["a"]
cut, sseclient-py: ["a","\"is ca"]
cut, r3labs/sse: ["a","\"is ca"]
cut, go-sse: ["a"]
empty, eventsource: ["","end"]
empty, httpx-sse: ["","end"]
empty, sseclient-py: ["","end"]
empty, r3labs/sse: ["end"]
empty, go-sse: ["","end"]
id alone, eventsource: ["end"]
id alone, httpx-sse: ["","end"]
id alone, sseclient-py: ["end"]
id alone, r3labs/sse: ["","end"]
id alone, go-sse: ["","end"]
long, eventsource: [70000,"end"]
long, httpx-sse: [70000,"end"]
long, sseclient-py: [70000,"end"]
long, r3labs/sse: []
long, go-sse: ["bufio.Scanner: token too long"]
mark, eventsource: ["a","end"]
mark, httpx-sse: ["end"]
mark, sseclient-py: ["end"]
mark, r3labs/sse: ["end"]
mark, go-sse: ["a","end"]
END
