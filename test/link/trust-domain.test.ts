/** The name of a fleet: chosen once, kept for ever. */
import t from 'tap';
import { systemRandom } from '../../src/base/random.js';
import { settleTrustDomain } from '../../src/link/trust-domain.js';
import { createMemoryStore } from '../../src/store/memory.js';

function readLog() {
  const lines: unknown[] = [];
  const info = (fields: Record<string, unknown>, message: string) => void lines.push([message, fields]);
  return { lines, log: { info } };
}

void t.test(
  'a trust domain that the link chooses is a full host name, valid in the URI of a certificate',
  async t => {
    const store = createMemoryStore();
    const { lines, log } = readLog();
    const chosen = await settleTrustDomain(store, undefined, systemRandom, log);
    // RFC 5280 §4.2.1.6: the host of a URI is a fully qualified domain name.
    t.match(chosen, /^fleet-[0-9a-f]{8}\.internal$/);
    t.same(lines, [
      [
        'chose a trust domain for this new data folder',
        {
          trustDomain: chosen,
          hint:
            'if this link replaces one whose data was lost, start it on an empty --data-dir with --trust-domain and ' +
            'the old name: agents with their state refuse any other',
        },
      ],
    ]);
    t.equal(await settleTrustDomain(store, undefined, systemRandom, log), chosen);
    t.equal(lines.length, 1, 'the second start says nothing');
  },
);

void t.test(
  'a configured trust domain is fixed at the first start, and the log has no warning of it',
  async t => {
    const store = createMemoryStore();
    const { lines, log } = readLog();
    for (const wanted of ['fleet.example.org', undefined, 'fleet.example.org']) {
      t.equal(await settleTrustDomain(store, wanted, systemRandom, log), 'fleet.example.org');
    }
    t.same(lines, []);
    await t.rejects(settleTrustDomain(store, 'other.example.org', systemRandom, log), {
      code: 'CONFIG_INVALID',
      message: 'this data folder belongs to the trust domain fleet.example.org, not other.example.org',
      hint: 'leave --trust-domain out, or use another --data-dir: an empty one takes this name',
    });
  },
);

void t.test('an older data folder keeps its trust domain of one label', async t => {
  const store = createMemoryStore();
  await store.commit([{ type: 'put', key: 'meta/trust-domain', value: Buffer.from('fleet-1a2b3c4d') }], []);
  const { log } = readLog();
  t.equal(await settleTrustDomain(store, undefined, systemRandom, log), 'fleet-1a2b3c4d');
  t.equal(await settleTrustDomain(store, 'fleet-1a2b3c4d', systemRandom, log), 'fleet-1a2b3c4d');
  await t.rejects(settleTrustDomain(store, 'fleet-1a2b3c4d.internal', systemRandom, log), {
    code: 'CONFIG_INVALID',
  });
});
