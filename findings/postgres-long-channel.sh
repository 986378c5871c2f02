#!/usr/bin/env bash
# PostgreSQL 15; asyncpg 0.32.0, postgres 3.4.9 and pg 8.23.1 (npm), psycopg 3.3.9
#
# Guess: a channel of LISTEN and NOTIFY whose name is too long (over 63 bytes: a prefix, a tenant, an id) is an error; and a channel listened to as Events is the one
#        that another driver notifies as Events.
# Seen:  `LISTEN` and `NOTIFY` cut the name to 63 bytes and go on (pg_notify() alone refuses: "channel name too long"), and the notification carries the short name. asyncpg
#        and postgres.js look their callbacks up by the long one, so that the callback never runs. Both also quote the name: who listens to Events
#        through them hears pg_notify('Events'), but not a plain `NOTIFY Events`, which pg and psycopg hear with `LISTEN Events`.
. "$(dirname "$0")/lib/finding.sh"
start_postgres
pip_install asyncpg==0.32.0 'psycopg[binary]==3.3.9'
npm_install pg@8.23.1 postgres@3.4.9
cat >listen.py <<'END'
import asyncio, asyncpg, os, psycopg
long = "c" * 70
async def main():
    listener = await asyncpg.connect(host=os.environ["PGHOST"])
    sender = await asyncpg.connect(host=os.environ["PGHOST"])
    heard = []
    for name in (long, "Events"):
        await listener.add_listener(name, lambda _, __, channel, payload: heard.append(payload))
    await sender.execute(f"NOTIFY {long}, 'long'; NOTIFY Events, 'folded'; SELECT pg_notify('Events', 'exact')")
    await asyncio.sleep(0.5)
    print("asyncpg heard:", heard)
    try:
        await sender.execute(f"SELECT pg_notify('{long}', '')")
    except asyncpg.PostgresError as error:
        print("pg_notify with 70 bytes:", error)
asyncio.run(main())
with psycopg.connect(autocommit=True) as listener, psycopg.connect(autocommit=True) as sender:
    listener.execute(f"LISTEN {long}; LISTEN Events")
    sender.execute(f"NOTIFY {long}, 'long'; NOTIFY Events, 'folded'; SELECT pg_notify('Events', 'exact')")
    print("psycopg heard:", [(len(note.channel) if len(note.channel) > 9 else note.channel, note.payload) for note in listener.notifies(timeout=1)])
END
cat >listen.mjs <<'END'
import pg from 'pg';
import postgres from 'postgres';
const long = 'c'.repeat(70);
const listener = new pg.Client();
const sender = new pg.Client();
await Promise.all([listener.connect(), sender.connect()]);
const sql = postgres({ path: `${process.env.PGHOST}/.s.PGSQL.5432`, onnotice() {} });
const heard = { pg: [], 'postgres.js': [] };
listener.on('notification', ({ payload }) => heard.pg.push(payload));
for (const name of [long, 'Events']) {
  await listener.query(`LISTEN ${name}`);
  await sql.listen(name, payload => heard['postgres.js'].push(payload));
}
await sender.query(`NOTIFY ${long}, 'long'; NOTIFY Events, 'folded'; SELECT pg_notify('Events', 'exact')`);
await new Promise(resolve => setTimeout(resolve, 500));
for (const [name, payloads] of Object.entries(heard)) console.log(`${name} heard:`, payloads);
process.exit();
END
{ venv/bin/python listen.py; node listen.mjs; } >seen
expect 'a channel name over 63 bytes is cut without an error, and asyncpg and postgres.js never hear it' <<'END'
asyncpg heard: ['exact']
pg_notify with 70 bytes: channel name too long
psycopg heard: [(63, 'long'), ('events', 'folded')]
pg heard: [ 'long', 'folded' ]
postgres.js heard: [ 'exact' ]
END
