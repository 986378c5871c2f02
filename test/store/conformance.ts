/** The contract of every store back-end. A new one runs this suite and needs no tests of its own for it. */
import fc from 'fast-check';
import type { Test } from 'tap';
import { isRollcallError } from '../../src/base/errors.js';
import type { Change, Entry, Expectation, Range, Store, Value } from '../../src/store/store.js';

export interface OpenedStore {
  readonly store: Store;
  /** Opens again on what the closed store left. Absent when it leaves nothing. */
  readonly reopen?: () => Promise<Store>;
}

const bytes = (text: string): Buffer => Buffer.from(text);
const text = (value: Value | undefined): string | undefined => value && Buffer.from(value).toString();
const put = (key: string, value: string): Change => ({ type: 'put', key, value: bytes(value) });
const remove = (key: string): Change => ({ type: 'delete', key });
const expects = (key: string, value?: string): Expectation => ({
  key,
  value: value === undefined ? undefined : bytes(value),
});
/** An entry that contains the one before it. */
const chain = (log: string, name: string): Change => ({
  type: 'append',
  log,
  value: previous => bytes(`${name}<${text(previous)?.split('<')[0] ?? 'none'}`),
});
const logKey = (log: string, number: number): string => log + String(number).padStart(16, '0');
const keysOf = (entries: readonly Entry[]): string[] => entries.map(({ key }) => key);

async function settled(promises: readonly Promise<unknown>[]): Promise<(string | true)[]> {
  const results = await Promise.allSettled(promises);
  return results.map(result => {
    if (result.status === 'fulfilled') return true;
    return isRollcallError(result.reason) ? result.reason.code : String(result.reason);
  });
}

export function testStore(t: Test, name: string, open: () => Promise<OpenedStore>): void {
  async function fresh(test: Test): Promise<Store> {
    const { store } = await open();
    test.teardown(() => store.close());
    return store;
  }

  void t.test(`${name}: stores committed values, and a missing key is undefined`, async test => {
    const store = await fresh(test);
    test.equal(await store.get('a'), undefined);
    await store.commit([put('a', '1'), put('b', ''), put('c', '3')]);
    test.equal(text(await store.get('a')), '1');
    test.equal(text(await store.get('b')), '', 'an empty value is a value');
    await store.commit([put('a', '2'), remove('c'), remove('never there')]);
    test.equal(text(await store.get('a')), '2');
    test.equal(await store.get('c'), undefined);
    await store.commit([put('d', '1'), remove('d'), put('e', '1'), put('e', '2')]);
    test.equal(await store.get('d'), undefined, 'the last change of a key counts');
    test.equal(text(await store.get('e')), '2');
    await store.commit([]);
  });

  void t.test(`${name}: lists by prefix, after, limit and in reverse`, async test => {
    const store = await fresh(test);
    test.same(await store.list({ prefix: '' }), []);
    const keys = ['a', 'a/', 'a/1', 'a/1/x', 'a/10', 'a/2', 'a0', 'b/1', 'B'];
    await store.commit(keys.map(key => put(key, `=${key}`)));
    const list = async (range: Range) => keysOf(await store.list(range));
    test.same(await list({ prefix: '' }), [...keys].sort());
    test.same(await list({ prefix: 'a/' }), ['a/', 'a/1', 'a/1/x', 'a/10', 'a/2']);
    test.same(await list({ prefix: 'a/1' }), ['a/1', 'a/1/x', 'a/10']);
    test.same(await list({ prefix: 'a/', after: 'a/1' }), ['a/1/x', 'a/10', 'a/2']);
    test.same(await list({ prefix: 'a/', after: 'a/11' }), ['a/2'], 'after need not exist');
    test.same(await list({ prefix: 'a/', after: 'A' }), ['a/', 'a/1', 'a/1/x', 'a/10', 'a/2']);
    test.same(await list({ prefix: 'a/', after: 'z' }), []);
    test.same(await list({ prefix: 'a/', limit: 2 }), ['a/', 'a/1']);
    test.same(await list({ prefix: 'a/', limit: 0 }), []);
    test.same(await list({ prefix: 'a/', reverse: true, limit: 2 }), ['a/2', 'a/10']);
    test.same(await list({ prefix: 'a/', reverse: true, after: 'a/10' }), ['a/1/x', 'a/1', 'a/']);
    test.same(await list({ prefix: 'a/', reverse: true, after: 'z', limit: 1 }), ['a/2']);
    test.same(await list({ prefix: 'a/', reverse: true, after: 'A' }), []);
    test.same(await list({ prefix: 'c' }), []);
    test.equal(text((await store.list({ prefix: 'b/' }))[0]?.value), '=b/1');
  });

  void t.test(`${name}: stored values do not change with the buffers they came in`, async test => {
    const store = await fresh(test);
    const value = bytes('good');
    await store.commit([{ type: 'put', key: 'a', value }]);
    value.write('evil');
    (await store.get('a'))?.set(bytes('evil'));
    test.equal(text(await store.get('a')), 'good');
  });

  void t.test(`${name}: a failed expectation writes nothing`, async test => {
    const store = await fresh(test);
    await store.commit([put('a', '1')], [expects('a')]);
    await test.rejects(store.commit([put('b', '1'), put('a', '2')], [expects('a', 'other')]), {
      code: 'STORE_CONFLICT',
    });
    await test.rejects(store.commit([put('b', '1')], [expects('a')]), { code: 'STORE_CONFLICT' });
    await test.rejects(store.commit([put('b', '1')], [expects('a', '1'), expects('c', '')]), {
      code: 'STORE_CONFLICT',
    });
    test.same(keysOf(await store.list({ prefix: '' })), ['a']);
    test.equal(text(await store.get('a')), '1');
    await store.commit([put('b', '1'), remove('a')], [expects('a', '1'), expects('c')]);
    test.same(keysOf(await store.list({ prefix: '' })), ['b']);
  });

  void t.test(`${name}: commits take effect in the order of their calls`, async test => {
    const store = await fresh(test);
    const results = await settled([
      store.commit([put('a', '1')], [expects('a')]),
      store.commit([put('a', '2')], [expects('a', '1')]),
      store.commit([put('a', '3'), put('b', 'x')], [expects('a', '1')]),
      store.commit([remove('a')], [expects('a', '2')]),
      store.commit([put('a', '4')], [expects('a'), expects('b')]),
    ]);
    test.same(results, [true, true, 'STORE_CONFLICT', true, true]);
    test.equal(text(await store.get('a')), '4');
  });

  void t.test(
    `${name}: of 100 commits that change one value at the same time, exactly one succeeds`,
    async test => {
      const store = await fresh(test);
      for (let round = 0; round < 5; round++) {
        const before = await store.get('counter');
        const racers = Array.from({ length: 100 }, (_, racer) =>
          store.commit(
            [put('counter', `${round}/${racer}`), put(`won/${round}/${racer}`, '')],
            [{ key: 'counter', value: before }],
          ),
        );
        const results = await settled(racers);
        test.equal(results.filter(result => result === true).length, 1);
        test.equal(results.filter(result => result === 'STORE_CONFLICT').length, 99);
        test.equal((await store.list({ prefix: `won/${round}/` })).length, 1);
      }
    },
  );

  void t.test(`${name}: append chains entries within a commit, within a group and after`, async test => {
    const store = await fresh(test);
    await Promise.all([
      store.commit([chain('log/', 'a'), chain('other/', 'x'), chain('log/', 'b')]),
      store.commit([chain('log/', 'c')]),
      store.commit([chain('log/', 'lost')], [expects('nothing', 'here')]).catch(() => undefined),
      store.commit([chain('log/', 'd')]),
    ]);
    await store.commit([chain('log/', 'e')]);
    const entries = await store.list({ prefix: 'log/' });
    test.same(
      keysOf(entries),
      [1, 2, 3, 4, 5].map(number => logKey('log/', number)),
    );
    test.same(
      entries.map(({ value }) => text(value)),
      ['a<none', 'b<a', 'c<b', 'd<c', 'e<d'],
    );
    test.equal(text(await store.get(logKey('other/', 1))), 'x<none');
  });

  void t.test(`${name}: a log may lie below another, and lose its old entries`, async test => {
    const store = await fresh(test);
    await store.commit([chain('log/inner/', 'x'), chain('log/inner/', 'y')]);
    await store.commit([chain('log/', 'a')]);
    await store.commit([chain('log/', 'b'), remove(logKey('log/', 1))]);
    await store.commit([chain('log/', 'c')]);
    test.equal(text(await store.get(logKey('log/', 3))), 'c<b');
  });

  void t.test(`${name}: an append whose value cannot be made fails only its own commit`, async test => {
    const store = await fresh(test);
    const failing: Change = {
      type: 'append',
      log: 'log/',
      value: () => {
        throw new Error('no value');
      },
    };
    const results = await settled([
      store.commit([chain('log/', 'a')]),
      store.commit([put('b', '1'), chain('log/', 'b'), failing]),
      store.commit([chain('log/', 'c')]),
    ]);
    test.equal(results[0], true);
    test.not(results[1], true);
    test.equal(results[2], true);
    test.equal(await store.get('b'), undefined);
    test.equal(text(await store.get(logKey('log/', 2))), 'c<a');
  });

  void t.test(
    `${name}: watchers receive the commits below their prefix, in order, before the caller`,
    async test => {
      const store = await fresh(test);
      const heard: string[] = [];
      const stop = store.watch('a/', changes => {
        heard.push(changes.map(({ key, value }) => `${key}=${text(value) ?? 'gone'}`).join(' '));
      });
      store.watch('a/', () => {
        throw new Error('a listener that fails');
      });
      const warned = new Promise(resolve => process.once('warning', resolve));
      await Promise.all([
        store.commit([put('a/1', '1'), put('b/1', '1'), put('a/2', '2')]),
        store.commit([put('b/2', '1')]),
        store.commit([put('a/1', 'lost')], [expects('b/1', 'other')]).catch(() => undefined),
        store.commit([remove('a/1'), chain('a/log/', 'x')]).then(() => heard.push('resolved')),
      ]);
      await warned;
      const wanted = ['a/1=1 a/2=2', `a/1=gone ${logKey('a/log/', 1)}=x<none`, 'resolved'];
      test.same(heard, wanted);
      stop();
      await store.commit([put('a/3', '3')]);
      test.same(heard, wanted, 'nothing after it was stopped');
    },
  );

  void t.test(`${name}: large values, and 10,000 entries page by page`, async test => {
    const store = await fresh(test);
    const large = Buffer.alloc(3_000_000, 'x');
    await store.commit([{ type: 'put', key: 'large', value: large }]);
    test.ok(large.equals((await store.get('large')) ?? Buffer.alloc(0)));
    const keys = Array.from({ length: 10_000 }, (_, index) => `n/${String(index).padStart(5, '0')}`);
    await Promise.all(keys.map(key => store.commit([put(key, key)])));
    for (const reverse of [false, true]) {
      const found: string[] = [];
      for (let after: string | undefined; ;) {
        const page = keysOf(await store.list({ prefix: 'n/', after, limit: 999, reverse }));
        found.push(...page);
        after = page.at(-1);
        if (page.length < 999) break;
      }
      test.same(found, reverse ? [...keys].reverse() : keys);
    }
  });

  void t.test(`${name}: refuses keys that would not sort the same everywhere`, async test => {
    const store = await fresh(test);
    for (const key of ['', 'grün', 'a\n', 'a\x7f']) await test.rejects(store.commit([put(key, '')]));
    test.same(await store.list({ prefix: '' }), []);
  });

  void t.test(`${name}: close waits for running commits, and later calls are refused`, async test => {
    const { store, reopen } = await open();
    const running = [store.commit([put('a', '1'), chain('log/', 'a')]), store.commit([chain('log/', 'b')])];
    const closing = store.close();
    test.equal(store.close(), closing, 'twice is one promise');
    const refused = { code: 'STORE_UNAVAILABLE' };
    await test.rejects(store.commit([put('b', '1')]), refused);
    await test.rejects(store.get('a'), refused);
    await test.rejects(store.list({ prefix: '' }), refused);
    test.throws(() => store.watch('', () => undefined), refused);
    await closing;
    test.same(await settled(running), [true, true]);
    if (!reopen) return;
    const again = await reopen();
    test.teardown(() => again.close());
    test.equal(text(await again.get('a')), '1');
    test.equal(await again.get('b'), undefined);
    await again.commit([chain('log/', 'c')]);
    test.equal(text(await again.get(logKey('log/', 3))), 'c<b', 'a log goes on where it ended');
  });

  void t.test(`${name}: behaves as a plain map under random commits`, async test => {
    const key = fc.constantFrom('a', 'a/', 'a/b', 'a/b/', 'b', 'ab');
    const change = fc.oneof(
      fc.record({ type: fc.constant('put' as const), key, value: fc.uint8Array({ maxLength: 3 }) }),
      fc.record({ type: fc.constant('delete' as const), key }),
    );
    const commit = fc.record({
      changes: fc.array(change, { maxLength: 4 }),
      expectations: fc.array(
        fc.record({ key, value: fc.option(fc.uint8Array({ maxLength: 1 }), { nil: undefined }) }),
        { maxLength: 1 },
      ),
    });
    const property = fc.asyncProperty(
      fc.array(commit, { maxLength: 12 }),
      fc.boolean(),
      async (commits, together) => {
        const { store } = await open();
        const model = new Map<string, string>();
        const hex = (value: Value | undefined) => value && Buffer.from(value).toString('hex');
        const wanted = commits.map(({ changes, expectations }) => {
          if (expectations.some(each => model.get(each.key) !== hex(each.value))) return 'STORE_CONFLICT';
          for (const each of changes) {
            if (each.type === 'put') model.set(each.key, hex(each.value) ?? '');
            else model.delete(each.key);
          }
          return true;
        });
        const found: (string | true)[] = [];
        if (together) {
          found.push(...(await settled(commits.map(each => store.commit(each.changes, each.expectations)))));
        } else {
          for (const each of commits)
            found.push(...(await settled([store.commit(each.changes, each.expectations)])));
        }
        const entries = (await store.list({ prefix: '' })).map(entry => [entry.key, hex(entry.value)]);
        await store.close();
        test.strictSame(found, wanted);
        test.strictSame(
          entries,
          [...model].sort(([one], [other]) => (one < other ? -1 : 1)),
        );
      },
    );
    await fc.assert(property, { numRuns: 40 });
  });
}
