#!/usr/bin/env bash
# classic-level 3.0.0 and memory-level 3.1.0 (abstract-level 3.1.1)
#
# Guess: `db.keys({ gt: cursor })` with no cursor yet (undefined, or null from a query) starts at the beginning; an empty string as a key is refused, as it
#        was; and with both gt and gte the stricter one counts.
# Seen:  undefined and null are encoded like any key: the range is what comes after the words "undefined" and "null". Keys that sort before them (most, digits
#        and capitals all) are left out without an error. '' is a valid key. With gt and gte, gt is not looked at, though it is stricter.
. "$(dirname "$0")/lib/finding.sh"
npm_install classic-level@3.0.0 memory-level@3.1.0
cat >range.mjs <<'END'
import { ClassicLevel } from 'classic-level';
import { MemoryLevel } from 'memory-level';
for (const [name, db] of Object.entries({ 'classic-level': new ClassicLevel('data'), 'memory-level': new MemoryLevel() })) {
  await db.batch(['', 'alice', 'null', 'undefined', 'zoe'].map(key => ({ type: 'put', key, value: '' })));
  for (const range of [{}, { gt: undefined }, { gte: null }, { lt: undefined }, { gt: 'null', gte: 'alice' }])
    console.log(name, range, await db.keys(range).all());
  await db.close();
}
END
node range.mjs >seen
expect 'to level a range that begins at undefined begins after the word "undefined"' <<'END'
classic-level {} [ '', 'alice', 'null', 'undefined', 'zoe' ]
classic-level { gt: undefined } [ 'zoe' ]
classic-level { gte: null } [ 'null', 'undefined', 'zoe' ]
classic-level { lt: undefined } [ '', 'alice', 'null' ]
classic-level { gt: 'null', gte: 'alice' } [ 'alice', 'null', 'undefined', 'zoe' ]
memory-level {} [ '', 'alice', 'null', 'undefined', 'zoe' ]
memory-level { gt: undefined } [ 'zoe' ]
memory-level { gte: null } [ 'null', 'undefined', 'zoe' ]
memory-level { lt: undefined } [ '', 'alice', 'null' ]
memory-level { gt: 'null', gte: 'alice' } [ 'alice', 'null', 'undefined', 'zoe' ]
END
