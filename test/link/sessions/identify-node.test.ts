import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createLog } from '../../../src/base/log.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import {
  openAuthority,
  type Authority,
  type IssuedCertificate,
} from '../../../src/link/authority/authority.js';
import { certificateKey, nodeKey } from '../../../src/link/registry/node-keys.js';
import { decodeNodeRecord } from '../../../src/link/registry/node-record.js';
import { Registry } from '../../../src/link/registry/registry.js';
import { identifyNode } from '../../../src/link/sessions/identify-node.js';
import { defaultTenant } from '../../../src/protocol/limits.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { prepareStore } from '../../../src/store/schema.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { userParty } from '../../harness/parties.js';
import { newKey } from '../../harness/test-link.js';

const trustDomain = 'test.example';
const said = { rememberedGeneration: 0n, address: '', agentVersion: '' };
const log = createLog({ level: 'error', name: 'test', destination: { write: () => undefined } });

async function open(t: Test) {
  const clock = createManualClock(Date.UTC(2026, 2, 1));
  const store = createMemoryStore();
  await prepareStore(store);
  const registry = new Registry({ store, audit: createAudit({ clock }), clock, random: randomBytes, log });
  t.teardown(() => registry.close());
  const openAnother = (folder: string): Promise<Authority> =>
    openAuthority({ folder: join(base, folder), trustDomain, clock, random: randomBytes });
  const base = t.testdir();
  const authority = await openAnother('own');
  const node = await registry.registerNode({
    ...{ tenant: defaultTenant, publicKey: newKey().publicKey, by: userParty('test') },
  });
  let issued: IssuedCertificate | undefined;
  await registry.issueCertificate(defaultTenant, node.id, said, (_, generation) => {
    issued = authority.issue({ nodeId: node.id, publicKey: newKey().publicKey.spki });
    const { fingerprint, serial, notBefore, notAfter } = issued;
    return { fingerprint, serial, notBefore, notAfter, generation, authority: authority.id };
  });
  if (!issued) throw new Error('nothing was issued');
  return { clock, store, openAnother, node, issued, parts: { registry, authority, trustDomain, clock } };
}

void t.test('a certificate on record identifies its node without a signature verified', async t => {
  const { node, issued, parts } = await open(t);
  const authority = { id: parts.authority.id, certificates: [] };
  t.strictSame(await identifyNode({ ...parts, authority }, issued.certificate), {
    tenant: defaultTenant,
    certificate: { nodeId: node.id, fingerprint: issued.fingerprint, notAfter: issued.notAfter },
  });
});

void t.test('a certificate on record is refused outside its dates', async t => {
  const { clock, issued, parts } = await open(t);
  clock.advance(issued.notAfter - clock.now() - 1);
  await identifyNode(parts, issued.certificate);
  clock.advance(1);
  await t.rejects(identifyNode(parts, issued.certificate), {
    code: 'CERTIFICATE_REFUSED',
    message: 'the certificate has expired',
  });
  const early = { ...parts, clock: { ...clock, now: () => issued.notBefore - 1 } };
  await t.rejects(identifyNode(early, issued.certificate), { message: 'the certificate is not valid yet' });
});

void t.test('a certificate that an older link issued is verified by the strict reader', async t => {
  const { store, node, issued, parts } = await open(t);
  const key = nodeKey(defaultTenant, node.id);
  const stored = await store.get(key);
  const issuedTo = stored && decodeNodeRecord(stored).next;
  if (!issuedTo) throw new Error('the node has no certificate');
  const { notBefore, authority, ...next } = issuedTo;
  t.strictSame([notBefore, authority], [issued.notBefore, parts.authority.id]);
  const record = JSON.parse(Buffer.from(stored).toString()) as Record<string, unknown>;
  const older = { ...record, next: { ...next, generation: '1' } };
  await store.commit([
    { type: 'put', key, value: Buffer.from(JSON.stringify(older)) },
    { type: 'delete', key: certificateKey(issued.fingerprint) },
  ]);
  const found = await identifyNode(parts, issued.certificate);
  t.equal(found.certificate.nodeId, node.id);
  const claim = { session: 1n, certificateFingerprint: issued.fingerprint, address: '', agentVersion: '' };
  t.match(await parts.registry.openSession(defaultTenant, node.id, claim), {
    status: 'online',
    current: { ...next, notBefore: 0, authority: '' },
  });
  const nobody = { ...parts, authority: { ...parts.authority, certificates: [] } };
  await t.rejects(identifyNode(nobody, issued.certificate), { code: 'CERTIFICATE_REFUSED' });
});

void t.test('a certificate on record is refused once its authority or trust domain is another', async t => {
  const { openAnother, issued, parts } = await open(t);
  const another = { ...parts, authority: await openAnother('another') };
  const refused = { code: 'CERTIFICATE_REFUSED', message: 'the certificate was not issued by this link' };
  await t.rejects(identifyNode(another, issued.certificate), refused);
  t.equal((await openAnother('own')).id, parts.authority.id, 'the next start opens the same authority');
});

void t.test(
  'only the current and the next certificate of a node are on record, none of a revoked one',
  async t => {
    const { store, node, issued, parts } = await open(t);
    const { registry } = parts;
    const onRecord = async (): Promise<string[]> =>
      (await store.list({ prefix: certificateKey('') })).map(({ key }) =>
        key.slice(certificateKey('').length),
      );
    const issue = (fingerprint: string) =>
      registry.issueCertificate(defaultTenant, node.id, said, (_, generation) => {
        return { fingerprint, serial: '1', notBefore: 0, notAfter: 2 ** 50, generation, authority: '' };
      });
    t.strictSame(await onRecord(), [issued.fingerprint]);
    await issue('second');
    t.strictSame(await onRecord(), ['second']);
    const claim = { session: 1n, certificateFingerprint: 'second', address: '', agentVersion: '' };
    await registry.openSession(defaultTenant, node.id, claim);
    await issue('third');
    t.strictSame(await onRecord(), ['second', 'third']);
    await registry.openSession(defaultTenant, node.id, {
      ...claim,
      session: 2n,
      certificateFingerprint: 'third',
    });
    t.strictSame(await onRecord(), ['third']);
    await registry.revokeNode(defaultTenant, node.id, { by: userParty('test'), comment: '' });
    t.strictSame(await onRecord(), []);
  },
);
