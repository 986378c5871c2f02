/** The name of a fleet: chosen once, kept for ever. */
import t from 'tap';
import { systemRandom } from '../../src/base/random.js';
import { settleTrustDomain } from '../../src/link/trust-domain.js';
import { createMemoryStore } from '../../src/store/memory.js';

void t.test(
  'a trust domain that the link chooses is a full host name, as a URI in a certificate wants',
  async t => {
    const store = createMemoryStore();
    const chosen = await settleTrustDomain(store, undefined, systemRandom);
    // RFC 5280 §4.2.1.6: the host of a URI is a fully qualified domain name.
    t.match(chosen, /^fleet-[0-9a-f]{8}\.internal$/);
    t.equal(await settleTrustDomain(store, undefined, systemRandom), chosen);
  },
);

void t.test('a data folder of before keeps its trust domain of one label', async t => {
  const store = createMemoryStore();
  await store.commit([{ type: 'put', key: 'meta/trust-domain', value: Buffer.from('fleet-1a2b3c4d') }], []);
  t.equal(await settleTrustDomain(store, undefined, systemRandom), 'fleet-1a2b3c4d');
  t.equal(await settleTrustDomain(store, 'fleet-1a2b3c4d', systemRandom), 'fleet-1a2b3c4d');
  await t.rejects(settleTrustDomain(store, 'fleet-1a2b3c4d.internal', systemRandom), {
    code: 'CONFIG_INVALID',
  });
});
