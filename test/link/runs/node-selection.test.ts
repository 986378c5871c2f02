/** Searches for nodes: an index answers them at once, or when enough nodes have connected. */
import { generateKeyPairSync } from 'node:crypto';
import t, { type Test } from 'tap';
import { createLog } from '../../../src/base/log.js';
import { systemRandom } from '../../../src/base/random.js';
import { parseSpki } from '../../../src/identity/public-key.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { Registry } from '../../../src/link/registry/registry.js';
import { NodeFinder, type NodeCriteria } from '../../../src/link/runs/node-selection.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import type { Store } from '../../../src/store/store.js';
import { createManualClock, type ManualClock } from '../../harness/manual-clock.js';
import { codeOf } from '../../harness/outcome.js';
import { userParty } from '../../harness/parties.js';

const tenant = 'default';

interface Rig {
  readonly registry: Registry;
  readonly finder: NodeFinder;
  readonly clock: ManualClock;
  /** How many records and lists the store was asked for by the searches. */
  readonly reads: () => number;
  /** Records that are read from now on are given when the function it gives is called. */
  readonly holdReads: () => () => void;
  /** Registers a node, which is online when it resolves. */
  readonly online: (labels?: Record<string, string>) => Promise<bigint>;
  readonly leave: (id: bigint) => Promise<void>;
  readonly find: (
    criteria: Partial<NodeCriteria>,
    signal?: AbortSignal,
    onWaiting?: (count: number) => void,
  ) => Promise<string[]>;
}

function openRig(t: Test): Rig {
  const memory = createMemoryStore();
  let reads = 0;
  let gate = Promise.resolve();
  /** A read whose result arrives only when the gate opens. */
  const late = async <T>(value: Promise<T>): Promise<T> => {
    reads += 1;
    const read = await value;
    await gate;
    return read;
  };
  const store: Store = {
    ...memory,
    get: key => late(memory.get(key)),
    list: range => ((reads += 1), memory.list(range)),
  };
  const clock = createManualClock();
  const audit = createAudit({ clock });
  const log = createLog({ level: 'error', name: 'link' });
  const registryOn = (on: Store): Registry => {
    const registry = new Registry({ store: on, audit, clock, random: systemRandom, log });
    t.teardown(() => registry.close());
    return registry;
  };
  const registry = registryOn(memory);
  const finder = new NodeFinder({ registry: registryOn(store), tenant, clock });
  return {
    ...{ registry, finder, clock, reads: () => reads },
    holdReads() {
      let open = (): void => undefined;
      gate = new Promise(resolve => (open = resolve));
      return () => {
        gate = Promise.resolve();
        open();
      };
    },
    async online(labels = {}) {
      const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const spki = parseSpki(publicKey.export({ format: 'der', type: 'spki' }));
      const { id } = await registry.registerNode({ tenant, publicKey: spki, labels, by: userParty('x') });
      const said = { rememberedGeneration: 0n, address: '', agentVersion: '' };
      const fingerprint = `${id}`;
      await registry.issueCertificate(tenant, id, said, (_, generation) => ({
        ...{ fingerprint, serial: '1', notBefore: 0, notAfter: 2 ** 50, generation, authority: '' },
      }));
      const claim = { session: 1n, certificateFingerprint: fingerprint, address: '', agentVersion: '' };
      await registry.openSession(tenant, id, claim);
      return id;
    },
    leave: id => registry.closeSession(tenant, id, 1n, { reason: 'connection lost' }).then(() => undefined),
    async find(criteria, signal = new AbortController().signal, onWaiting) {
      const whole = { min: 1, labels: {}, timeoutMs: Infinity, ...criteria };
      const found = await finder.find(whole, signal, onWaiting);
      return found.map(({ id }) => id);
    },
  };
}

const turn = async (): Promise<void> => {
  for (let count = 0; count < 5; count++) await new Promise(resolve => setImmediate(resolve));
};
const inOrder = (ids: readonly bigint[]): string[] =>
  [...ids].sort((one, other) => (one < other ? -1 : 1)).map(id => `${id}`);

void t.test('online nodes are found by their labels, sorted by id', async t => {
  const { online, leave, find } = openRig(t);
  const berlin = [await online({ site: 'berlin' }), await online({ site: 'berlin', gpu: 'a' })];
  const tokyo = await online({ site: 'tokyo' });
  t.same(await find({}), inOrder([...berlin, tokyo]));
  t.same(await find({ labels: { site: 'berlin' }, min: 2 }), inOrder(berlin));
  t.same(await find({ labels: { site: 'berlin', gpu: 'a' } }), [`${berlin[1] ?? ''}`]);
  t.same(await find({ labels: { toString: 'x' }, min: 0 }), []);
  await leave(tokyo);
  t.same(await find({}), inOrder(berlin));
});

void t.test('a change of a node reads no other node, even with 64 waiting searches', async t => {
  const { online, find, reads, registry, clock } = openRig(t);
  for (let count = 0; count < 100; count++) await online();
  const searches = Array.from({ length: 64 }, (_, index) =>
    find({ labels: { site: 'berlin' }, min: 1 + Math.floor(index / 32) }),
  );
  await turn();
  const before = reads();
  for (let count = 0; count < 10; count++) await online({ site: 'tokyo' });
  t.equal(reads() - before, 0, 'no node is looked at again');
  const first = await online({ site: 'berlin' });
  await turn();
  clock.advance(20);
  t.same(await Promise.all(searches.slice(0, 32)), Array(32).fill([`${first}`]));
  const second = await online({ site: 'berlin' });
  await turn();
  clock.advance(20);
  t.same(await Promise.all(searches.slice(32)), Array(32).fill(inOrder([first, second])));
  t.equal(await registry.countNodes(tenant).then(({ online }) => online), 112);
});

void t.test('a search ends at its timeout or when it is aborted', async t => {
  const { online, leave, find, clock } = openRig(t);
  const late = codeOf(find({ min: 2, timeoutMs: 1_000 }));
  const unwanted = new AbortController();
  const aborted = find({ min: 2 }, unwanted.signal);
  await turn();
  const id = await online();
  unwanted.abort(new Error('gone'));
  await t.rejects(aborted, /gone/);
  clock.advance(1_000);
  t.equal(await late, 'DEADLINE_EXCEEDED');
  const coming = find({ min: 2 });
  await turn();
  const other = await online();
  await turn();
  await leave(other);
  clock.advance(20);
  await turn();
  const third = await online();
  await turn();
  clock.advance(20);
  t.same(await coming, inOrder([id, third]), 'one that left again does not count');
});

void t.test('a waiting search reports the number of matching nodes at once and each minute', async t => {
  const { online, find, clock } = openRig(t);
  await online({ site: 'tokyo' });
  const heard: number[] = [];
  const hear = (count: number): void => void heard.push(count);
  await find({ min: 1 }, undefined, hear);
  t.same(heard, [], 'a search that does not wait hears nothing');
  const searching = find({ min: 2, labels: { site: 'berlin' } }, undefined, hear);
  await turn();
  t.same(heard, [0]);
  await online({ site: 'berlin' });
  await turn();
  clock.advance(59_999);
  t.same(heard, [0]);
  clock.advance(1);
  t.same(heard, [0, 1]);
  await online({ site: 'berlin' });
  await turn();
  clock.advance(20);
  t.equal((await searching).length, 2);
  clock.advance(120_000);
  t.same(heard, [0, 1], 'nothing more once it was found');
});

void t.test('a node that changes while the index is built is neither lost nor found twice', async t => {
  const { online, leave, find, clock, reads, holdReads } = openRig(t);
  const ids = [await online(), await online(), await online()];
  const release = holdReads();
  const searching = find({ min: 4 });
  await turn();
  await leave(ids[0] ?? 0n);
  const last = [await online(), await online()];
  release();
  await turn();
  clock.advance(20);
  t.same(await searching, inOrder([...ids.slice(1), ...last]));
  const before = reads();
  t.equal((await find({})).length, 4);
  t.equal(reads(), before, 'it is there for the next search');
  clock.advance(60_000);
  t.equal((await find({})).length, 4);
  t.ok(reads() > before, 'and is made anew after a minute without one');
});
