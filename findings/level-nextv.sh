#!/usr/bin/env bash
# classic-level 3.0.0 and memory-level 3.1.0 (abstract-level 3.1.1)
#
# Guess: iterator.nextv(1000) gives 1,000 entries, and fewer only at the end of the range; code that pages until "less than I asked for" is right, and a test on
#        memory-level shows it.
# Seen:  classic-level stops at 16 KiB of entries, whatever the size: 155 entries of 106 bytes, or one of 20 kB. Paging by count then ends after the first page and
#        loses the rest without an error. memory-level gives 1,000, so the test passes. all() and `for await` are not concerned.
. "$(dirname "$0")/lib/finding.sh"
npm_install classic-level@3.0.0 memory-level@3.1.0
cat >page.mjs <<'END'
import { ClassicLevel } from 'classic-level';
import { MemoryLevel } from 'memory-level';
for (const [name, db] of Object.entries({ 'classic-level': new ClassicLevel('data'), 'memory-level': new MemoryLevel() })) {
  await db.batch(Array.from({ length: 2000 }, (_, n) => ({ type: 'put', key: `a${String(n).padStart(5, '0')}`, value: 'x'.repeat(100) })));
  await db.batch([1, 2, 3].map(n => ({ type: 'put', key: `b${n}`, value: 'x'.repeat(20_000) })));
  for (const [what, range] of Object.entries({ small: { lt: 'b' }, large: { gte: 'b' } })) {
    const iterator = db.iterator(range);
    const page = await iterator.nextv(1000);
    await iterator.close();
    console.log(`${name}, ${what} entries: nextv(1000) gives ${page.length}, all() ${(await db.iterator(range).all()).length}`);
  }
  await db.close();
}
END
node page.mjs >seen
expect 'nextv(1000) of classic-level gives as few as one entry though more follow' <<'END'
classic-level, small entries: nextv(1000) gives 155, all() 2000
classic-level, large entries: nextv(1000) gives 1, all() 3
memory-level, small entries: nextv(1000) gives 1000, all() 2000
memory-level, large entries: nextv(1000) gives 3, all() 3
END
