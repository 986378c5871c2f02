/** The certificate and the roots of a link, as sites have them: what it starts with, hands out and refuses. */
import t from 'tap';
import { systemClock } from '../../../src/base/clock.js';
import { formatAddress } from '../../../src/base/settings.js';
import { ControlClient } from '../../../src/control-client/control-client.js';
import { diagnose } from '../../../src/control-client/diagnosis.js';
import { fetchDocument } from '../../../src/tokens/fetch-document.js';
import { makeAuthority, makeServer } from '../../harness/server-chains.js';
import { newKey, startTestLink } from '../../harness/test-link.js';

void t.test('link, node and command all take an intermediate authority as their root', async t => {
  const root = makeAuthority('site root');
  const intermediate = makeAuthority('site intermediate', root);
  const server = { ...makeServer(intermediate, {}, [intermediate]), roots: intermediate.pem };
  const test = await startTestLink(t, { server });
  const key = newKey();
  await test.register(key);
  await test.online(key);
  const address = formatAddress(test.link.addresses.control);
  const client = new ControlClient({ address, rootCertificates: server.roots, token: test.token });
  t.teardown(() => client.close());
  t.match(await client.me(), { tenant: 'default' }, 'over HTTP');
  t.equal((await client.nodes.list().next()).value?.name, '', 'over gRPC');
  const url = new URL(`https://${address}/.well-known/jwks.json`);
  const bounds = { timeoutMs: 10_000, mostBytes: 65_536, clock: systemClock };
  const keys = await fetchDocument({ url, rootCertificates: server.roots, ...bounds });
  t.match(JSON.parse(keys.toString()), { keys: [{}] }, 'for the keys of tokens');
  const target = { address: test.link.addresses.control, addressText: address, rootsPath: 'ca.crt' };
  const names = { address: '--control', roots: '--root-certificates' };
  const diagnosis = await diagnose({ ...target, roots: Buffer.from(server.roots), names }, 'silence');
  t.match(diagnosis.message, /did not answer: silence/, 'nobody is suspected to be in between');
});
