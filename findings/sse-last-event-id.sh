#!/usr/bin/env bash
# eventsource 4.1.1 (npm, with eventsource-parser 3.1.1); beside httpx-sse 0.4.3
#
# Guess: as the HTML standard has it, an `id:` line sets the last event id whether or not its block has data: a server that marks its place by "id: 8" alone (a
#        heartbeat) is asked with Last-Event-ID: 8 after a reconnect, and `lastEventId` of an event without an id of its own is the id before it.
# Seen:  eventsource forgets ids of blocks without data (it reconnects with 7, or without the header), so events between are sent again; and an event without an
#        id has lastEventId '', so a program that stores it after each event stores "from the start".
. "$(dirname "$0")/lib/finding.sh"
npm_install eventsource@4.1.1 eventsource-parser@3.1.1
pip_install httpx-sse==0.4.3 httpx==0.28.1
cat >ids.mjs <<'END'
import { createServer } from 'node:http';
import { writeFileSync } from 'node:fs';
import { EventSource } from 'eventsource';
for (const body of ['id: 7\ndata: a\n\ndata: b\n\n', 'id: 7\ndata: a\n\nid: 8\n\n', 'id: 8\n\n']) {
  const seen = [];
  let source;
  const asked = await new Promise(resolve => {
    let first = true;
    const server = createServer((request, response) => {
      if (!first) {
        source.close();
        server.close();
        resolve(request.headers['last-event-id'] ?? 'no header');
        return response.destroy();
      }
      first = false;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(`retry: 10\n${body}`);
    });
    server.listen(0, '127.0.0.1', () => {
      source = new EventSource(`http://127.0.0.1:${server.address().port}/`);
      source.onmessage = event => seen.push([event.data, event.lastEventId]);
    });
  });
  console.log(`eventsource, sent ${JSON.stringify(body)}: events ${JSON.stringify(seen)}, asks again with ${asked}`);
}
END
cat >ids.py <<'END'
import httpx, httpx_sse, json
for body in ("id: 7\ndata: a\n\ndata: b\n\n", "id: 7\ndata: a\n\nid: 8\n\n", "id: 8\n\n"):
    answer = lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)
    with httpx.Client(transport=httpx.MockTransport(answer)) as client, httpx_sse.connect_sse(client, "GET", "http://test/") as source:
        last = [event.id for event in source.iter_sse()][-1]
    print(f"httpx-sse, sent {json.dumps(body)}: the last id is {last}")
END
{ node ids.mjs; venv/bin/python ids.py; } >seen
expect 'eventsource forgets the id of a block without data, and asks again from an earlier one' <<'END'
eventsource, sent "id: 7\ndata: a\n\ndata: b\n\n": events [["a","7"],["b",""]], asks again with 7
eventsource, sent "id: 7\ndata: a\n\nid: 8\n\n": events [["a","7"]], asks again with 7
eventsource, sent "id: 8\n\n": events [], asks again with no header
httpx-sse, sent "id: 7\ndata: a\n\ndata: b\n\n": the last id is 7
httpx-sse, sent "id: 7\ndata: a\n\nid: 8\n\n": the last id is 8
httpx-sse, sent "id: 8\n\n": the last id is 8
END
