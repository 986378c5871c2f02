#!/usr/bin/env bash
# fastify 5.12.8 with its default validator (ajv)
#
# Guess: a JSON body that does not fit its schema is answered 400; coercion is for query strings, where everything is text, and makes numbers of digits.
# Seen:  bodies are coerced too. A list of integers that is null becomes [0]; null is 0, "" or false. Where a schema keeps 64-bit ids safe as text
#        (`type: string`, digits only), a client that sends the id as a JSON number is not refused: 18446744073709551615 arrives as the text
#        "18446744073709552000", another id that passes the pattern. And `?n=Infinity`, 1e400, 0x10 and 0b11 are integers.
. "$(dirname "$0")/lib/finding.sh"
npm_install fastify@5.12.8
cat >ask.mjs <<'END'
import fastify from 'fastify';
const properties = {
  list: { type: 'array', items: { type: 'integer' } },
  number: { type: 'integer' },
  text: { type: 'string' },
  id: { type: 'string', pattern: '^[0-9]{1,20}$' },
};
const schema = { type: 'object', properties };
const app = fastify();
const show = value => Object.entries(value).map(([name, held]) => `${name} is ${typeof held === 'number' ? held : JSON.stringify(held)}`).join();
app.post('/', { schema: { body: schema } }, request => show(request.body));
app.get('/', { schema: { querystring: schema } }, request => show(request.query));
const headers = { 'content-type': 'application/json' };
for (const payload of ['{"list":null}', '{"number":null}', '{"number":true}', '{"text":null}', '{"id":18446744073709551615}', '{"id":9007199254740993}']) {
  const { statusCode, body } = await app.inject({ method: 'POST', url: '/', headers, payload });
  console.log(`body ${payload}: ${statusCode}, ${body}`);
}
for (const query of ['number=Infinity', 'number=1e400', 'number=0x10', 'number=0b11', 'number=']) {
  const { statusCode, body } = await app.inject(`/?${query}`);
  console.log(`query ${query}: ${statusCode}, ${statusCode === 200 ? body : JSON.parse(body).message}`);
}
END
node ask.mjs >seen
expect 'fastify takes a number for the text of an id, and rounds it on the way' <<'END'
body {"list":null}: 200, list is [0]
body {"number":null}: 200, number is 0
body {"number":true}: 200, number is 1
body {"text":null}: 200, text is ""
body {"id":18446744073709551615}: 200, id is "18446744073709552000"
body {"id":9007199254740993}: 200, id is "9007199254740992"
query number=Infinity: 200, number is Infinity
query number=1e400: 200, number is Infinity
query number=0x10: 200, number is 16
query number=0b11: 200, number is 3
query number=: 400, querystring/number must be integer
END
