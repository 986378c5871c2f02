#!/usr/bin/env bash
# PostgreSQL 15; asyncpg 0.32.0, psycopg 3.3.9, pg 8.23.1, postgres 3.4.9 (npm), pgx 5.13.0, lib/pq 1.12.3
#
# Guess: 'infinity' of a timestamptz ("never expires") comes out of a driver as one thing of its language, the same one for each query, or as an error.
# Seen:  six drivers, six answers. asyncpg gives the year 9999 WITHOUT a time zone, where every other timestamptz has one, so that comparing the two is a
#        TypeError; psycopg a DataError while fetching; pg the number Infinity where a Date is expected; postgres.js an Invalid Date; pgx refuses time.Time;
#        lib/pq "storing driver.Value type []uint8".
. "$(dirname "$0")/lib/finding.sh"
start_postgres
pip_install asyncpg==0.32.0 'psycopg[binary]==3.3.9'
npm_install pg@8.23.1 postgres@3.4.9
go_get github.com/jackc/pgx/v5@v5.13.0 github.com/lib/pq@v1.12.3
cat >read.py <<'END'
import asyncio, asyncpg, datetime, os, psycopg
async def main():
    connection = await asyncpg.connect(host=os.environ["PGHOST"])
    infinite, now = await connection.fetchrow("SELECT 'infinity'::timestamptz, now()")
    print("asyncpg:", repr(infinite))
    try:
        infinite > now
    except TypeError as error:
        print("asyncpg, compared with now():", error)
asyncio.run(main())
try:
    with psycopg.connect() as connection:
        print("psycopg:", connection.execute("SELECT 'infinity'::timestamptz").fetchone())
except psycopg.DataError as error:
    print("psycopg: DataError:", error)
END
cat >read.mjs <<'END'
import pg from 'pg';
import postgres from 'postgres';
const client = new pg.Client();
await client.connect();
const { infinite } = (await client.query("SELECT 'infinity'::timestamptz AS infinite")).rows[0];
console.log(`pg: ${typeof infinite} ${infinite}`);
await client.end();
const sql = postgres({ path: `${process.env.PGHOST}/.s.PGSQL.5432` });
const [row] = await sql`SELECT 'infinity'::timestamptz AS infinite`;
console.log(`postgres.js: ${row.infinite.constructor.name} ${row.infinite}`);
await sql.end();
END
cat >main.go <<'END'
package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/lib/pq"
)

func main() {
	ctx := context.Background()
	connection, err := pgx.Connect(ctx, "")
	if err != nil {
		panic(err)
	}
	var at time.Time
	fmt.Println("pgx:", connection.QueryRow(ctx, "SELECT 'infinity'::timestamptz").Scan(&at))
	db, _ := sql.Open("postgres", "sslmode=disable")
	fmt.Println("lib/pq:", db.QueryRow("SELECT 'infinity'::timestamptz").Scan(&at))
}
END
{ venv/bin/python read.py; node read.mjs; go run main.go; } >seen
expect "six drivers of PostgreSQL read 'infinity' in six ways; asyncpg's has no time zone" <<'END'
asyncpg: datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)
asyncpg, compared with now(): can't compare offset-naive and offset-aware datetimes
psycopg: DataError: timestamp too large (after year 10K): 'infinity'
pg: number Infinity
postgres.js: Date Invalid Date
pgx: can't scan into dest[0] (col: timestamptz): cannot scan Infinity into *time.Time
lib/pq: sql: Scan error on column index 0, name "timestamptz": unsupported Scan, storing driver.Value type []uint8 into type *time.Time
END
