import fc from 'fast-check';
import t from 'tap';
import { checkLabels, checkName } from '../../../src/link/registry/labels.js';
import {
  decodeHistoryEntry,
  decodeNodeRecord,
  encodeHistoryEntry,
  encodeNodeRecord,
  nodeStatusNames,
  type CertificateReference,
  type NodeRecord,
  type NodeStatusName,
} from '../../../src/link/registry/node-record.js';
import type { NodeEvent } from '../../../src/link/registry/node-events.js';
import { checkPageSize, makePageToken, readPageToken } from '../../../src/link/registry/page-token.js';
import {
  decide,
  decideAll,
  isCloneSuspected,
  registeredNode,
} from '../../../src/link/registry/node-machine.js';
import { userParty } from '../../harness/parties.js';

const certificate = (generation: bigint): CertificateReference => ({
  fingerprint: `certificate ${generation}`,
  serial: `0${generation}`,
  notBefore: 0,
  notAfter: 9000,
  generation,
  authority: 'a'.repeat(32),
});

const registration = {
  owner: 'ann',
  id: 7n,
  tenant: 'default',
  name: 'one',
  labels: { site: 'a' },
  spki: Buffer.from('key'),
  fingerprint: 'SHA256:abc',
  registeredAt: 1000,
};
const created = registeredNode(registration, userParty('operator')).record;

/** A node that has a current certificate (3), a next one (4), and a session (50) when online. */
function nodeIn(status: NodeStatusName): NodeRecord {
  return {
    ...created,
    status,
    sinceAt: 2000,
    reason: 'as it was',
    address: '10.0.0.1:1',
    agentVersion: '0.1.0',
    issuedGeneration: 4n,
    confirmedGeneration: 3n,
    ...(status !== 'revoked' && { current: certificate(3n), next: certificate(4n) }),
    ...(status === 'online' && { session: 50n }),
  };
}

const events = {
  issued: {
    type: 'issued',
    at: 5000,
    certificate: certificate(5n),
    rememberedGeneration: 3n,
    address: '10.0.0.2:2',
    agentVersion: '0.2.0',
  },
  'connected, current certificate': {
    type: 'connected',
    at: 5000,
    session: 60n,
    certificateFingerprint: 'certificate 3',
    address: '10.0.0.2:2',
    agentVersion: '0.2.0',
    takeover: 'replaced',
  },
  'connected, next certificate': {
    type: 'connected',
    at: 5000,
    session: 60n,
    certificateFingerprint: 'certificate 4',
    address: '10.0.0.2:2',
    agentVersion: '0.2.0',
    takeover: 'handover',
  },
  'connected, old certificate': {
    type: 'connected',
    at: 5000,
    session: 60n,
    certificateFingerprint: 'certificate 2',
    address: '10.0.0.2:2',
    agentVersion: '0.2.0',
    takeover: 'replaced',
  },
  'closed, its session': { type: 'closed', at: 5000, session: 50n, reason: 'connection lost', detail: '' },
  'closed, another session': {
    type: 'closed',
    at: 5000,
    session: 51n,
    reason: 'connection lost',
    detail: '',
  },
  revoked: { type: 'revoked', at: 5000, by: userParty('admin'), comment: 'sold' },
  'link-restarted': { type: 'link-restarted', at: 4000 },
} as const satisfies Record<string, NodeEvent>;

/** The result of each event in each status: the next status and its reason, "=" for no change, or a code. */
const table: Record<keyof typeof events, Record<NodeStatusName, string>> = {
  issued: {
    pending: 'NODE_PENDING',
    created: 'created as it was',
    online: 'online as it was',
    offline: 'offline as it was',
    revoked: 'NODE_REVOKED',
    quarantined: 'NODE_QUARANTINED',
  },
  'connected, current certificate': {
    pending: 'NODE_PENDING',
    created: 'online connected',
    online: 'online replaced',
    offline: 'online connected',
    revoked: 'NODE_REVOKED',
    quarantined: 'NODE_QUARANTINED',
  },
  'connected, next certificate': {
    pending: 'NODE_PENDING',
    created: 'online connected',
    online: 'online as it was',
    offline: 'online connected',
    revoked: 'NODE_REVOKED',
    quarantined: 'NODE_QUARANTINED',
  },
  'connected, old certificate': {
    pending: 'NODE_PENDING',
    created: 'CERTIFICATE_REFUSED',
    online: 'CERTIFICATE_REFUSED',
    offline: 'CERTIFICATE_REFUSED',
    revoked: 'NODE_REVOKED',
    quarantined: 'NODE_QUARANTINED',
  },
  'closed, its session': {
    pending: '=',
    created: '=',
    online: 'offline connection lost',
    offline: '=',
    revoked: '=',
    quarantined: '=',
  },
  'closed, another session': {
    pending: '=',
    created: '=',
    online: '=',
    offline: '=',
    revoked: '=',
    quarantined: '=',
  },
  revoked: {
    pending: 'revoked revoked',
    created: 'revoked revoked',
    online: 'revoked revoked',
    offline: 'revoked revoked',
    revoked: '=',
    quarantined: 'revoked revoked',
  },
  'link-restarted': {
    pending: '=',
    created: '=',
    online: 'offline link restarted',
    offline: '=',
    revoked: '=',
    quarantined: '=',
  },
};

void t.test('every event in every status of a node leads to the status in the table', test => {
  for (const [name, event] of Object.entries(events)) {
    for (const status of nodeStatusNames) {
      const decision = decide(nodeIn(status), event);
      const wanted = table[name as keyof typeof events][status];
      const found =
        decision.outcome === 'changed'
          ? `${decision.record.status} ${decision.record.reason}`
          : decision.outcome === 'refused'
            ? decision.error.code
            : '=';
      test.equal(found, wanted, `${status}: ${name}`);
      if (decision.outcome !== 'changed') continue;
      test.equal(decision.record.version, 2, 'a commit is a version');
      test.ok(decision.audit.length > 0, 'and an audit event');
      const isTold = decision.history !== undefined;
      test.equal(decision.record.transitions, isTold ? 2 : 1);
      if (decision.record.status !== status) test.ok(isTold, 'a change of status is in the history');
      if (decision.record.status !== status) test.equal(decision.record.sinceAt, event.at);
    }
  }
  test.end();
});

void t.test('registered: a node begins as created, with its first history entry', test => {
  const { record, history, audit } = registeredNode(registration, userParty('operator'));
  test.match(record, {
    status: 'created',
    sinceAt: 1000,
    reason: 'registered',
    version: 1,
    transitions: 1,
    owner: 'ann',
  });
  test.same(history, {
    at: 1000,
    status: 'created',
    reason: 'registered',
    detail: '',
    address: '',
    version: 1,
  });
  test.match(audit, [
    { type: 'node.registered', subject: '7', by: { name: 'operator' }, detail: { name: 'one' } },
  ]);
  test.end();
});

function changed(record: NodeRecord, event: NodeEvent) {
  const decision = decide(record, event);
  if (decision.outcome !== 'changed') throw new Error(`nothing changed: ${decision.outcome}`);
  return decision;
}

void t.test('connected: the next certificate becomes current and confirms its generation', test => {
  const { record } = changed(nodeIn('offline'), events['connected, next certificate']);
  test.match(record, { session: 60n, address: '10.0.0.2:2', agentVersion: '0.2.0', confirmedGeneration: 4n });
  test.equal(record.current?.generation, 4n);
  test.notOk('next' in record);
  const again = changed(nodeIn('offline'), events['connected, current certificate']).record;
  test.equal(again.current?.generation, 3n);
  test.equal(again.next?.generation, 4n, 'the current one leaves the next one waiting');
  test.equal(again.confirmedGeneration, 3n);
  test.end();
});

void t.test('connected: a hand-over changes neither status nor history, a takeover is audited', test => {
  const moved = changed(nodeIn('online'), events['connected, next certificate']);
  test.match(moved.record, { status: 'online', sinceAt: 2000, session: 60n, confirmedGeneration: 4n });
  test.equal(moved.history, undefined);
  test.match(moved.audit, [{ type: 'node.handed-over' }]);
  const taken = changed(nodeIn('online'), events['connected, current certificate']);
  test.match(taken.record, { status: 'online', sinceAt: 2000, session: 60n });
  test.match(taken.history, {
    at: 5000,
    status: 'online',
    reason: 'replaced',
    detail: 'before at 10.0.0.1:1',
  });
  test.match(taken.audit, [{ type: 'node.replaced', detail: { before: '10.0.0.1:1' } }]);
  const same = { ...events['connected, current certificate'], session: 50n };
  test.equal(decide(nodeIn('online'), same).outcome, 'unchanged', 'the same session twice is once');
  test.end();
});

void t.test(
  'closed and revoked: the session is removed, and of a revoked node the certificates too',
  test => {
    const closed = changed(nodeIn('online'), events['closed, its session']).record;
    test.notOk('session' in closed);
    test.equal(closed.current?.generation, 3n);
    const revoked = changed(nodeIn('online'), events.revoked);
    test.notOk('session' in revoked.record || 'current' in revoked.record || 'next' in revoked.record);
    test.match(revoked.history, { status: 'revoked', detail: 'sold', at: 5000 });
    test.match(revoked.audit, [{ by: { name: 'admin' }, detail: { before: 'online', comment: 'sold' } }]);
    test.end();
  },
);

void t.test(
  'link-restarted: offline since the link was last alive, but never before it came online',
  test => {
    test.equal(changed(nodeIn('online'), events['link-restarted']).record.sinceAt, 4000);
    test.equal(changed(nodeIn('online'), { type: 'link-restarted', at: 1500 }).record.sinceAt, 2000);
    test.end();
  },
);

void t.test(
  'issued: a remembered generation outside of confirmed to last issued is reported as a clone',
  test => {
    const node = nodeIn('offline');
    const suspected = [0n, 1n, 2n, 3n, 4n, 5n, 2n ** 64n - 1n].filter(each => isCloneSuspected(node, each));
    test.same(suspected, [1n, 2n, 5n, 2n ** 64n - 1n]);
    const auditOf = (record: NodeRecord, rememberedGeneration: bigint) =>
      changed(record, { ...events.issued, rememberedGeneration }).audit;
    test.same(
      auditOf(node, 2n).map(({ type }) => type),
      ['node.enrolled', 'node.clone-suspected'],
    );
    test.match(auditOf(node, 0n), [
      { detail: { note: 'generation-unknown', generation: '5', serial: '05' } },
    ]);
    test.equal(auditOf(node, 3n)[0]?.detail?.['note'], undefined);
    test.equal(auditOf({ ...node, confirmedGeneration: 0n }, 0n)[0]?.detail?.['note'], undefined);
    test.match(changed(node, events.issued).record, {
      issuedGeneration: 5n,
      confirmedGeneration: 3n,
      next: { generation: 5n },
    });
    test.end();
  },
);

void t.test('strings from outside are cleaned before they are stored', test => {
  const nasty = {
    ...events['connected, current certificate'],
    agentVersion: `x\n\u001b[31m\u202e${'y'.repeat(500)}`,
  };
  const { agentVersion } = changed(nodeIn('offline'), nasty).record;
  test.match(agentVersion, /^x\ufffd\ufffd\[31m\ufffdyyy/);
  test.equal(agentVersion.length, 128);
  test.end();
});

void t.test('several events at once have the same result as one after the other', test => {
  const event = fc.constantFrom<NodeEvent>(...Object.values(events));
  fc.assert(
    fc.property(fc.constantFrom(...nodeStatusNames), fc.array(event, { maxLength: 6 }), (status, list) => {
      let record = nodeIn(status);
      let told = 0;
      for (const each of list) {
        const decision = decide(record, each);
        if (decision.outcome !== 'changed') continue;
        record = decision.record;
        told += decision.history ? 1 : 0;
      }
      const folded = decideAll(nodeIn(status), list);
      test.strictSame(folded.record, record);
      test.equal(folded.history.length, told);
      test.equal(record.session !== undefined, record.status === 'online');
    }),
  );
  test.end();
});

void t.test('a node record is read as it was stored, and invalid bytes are INTERNAL', test => {
  for (const status of nodeStatusNames) {
    const record = { ...nodeIn(status), labels: { constructor: 'x', 'a/b': 'ü' }, id: 2n ** 64n - 1n };
    test.strictSame(decodeNodeRecord(encodeNodeRecord(record)), record);
  }
  const entry = registeredNode(registration, userParty('x')).history;
  if (entry) test.strictSame(decodeHistoryEntry(encodeHistoryEntry(entry)), entry);
  const fields = JSON.parse(encodeNodeRecord(nodeIn('online')).toString()) as Record<string, unknown>;
  const wrong: unknown[] = [
    null,
    [],
    'x',
    {},
    ...Object.keys(fields).map(name => ({ ...fields, [name]: null })),
  ];
  wrong.push({ ...fields, status: 'here' }, { ...fields, id: '-1' }, { ...fields, labels: { a: 1 } });
  for (const value of wrong) {
    const bytes = Buffer.from(JSON.stringify(value));
    test.throws(() => decodeNodeRecord(bytes), { code: 'INTERNAL' }, bytes.toString().slice(0, 60));
  }
  test.throws(() => decodeNodeRecord(Buffer.from('{')), { code: 'INTERNAL' });
  test.throws(() => decodeHistoryEntry(Buffer.from('{}')), { code: 'INTERNAL' });
  test.end();
});

void t.test('invalid names and labels are refused with the expected form', test => {
  for (const name of ['', 'a', 'Node-1', '1a', 'x'.repeat(64), 'a.b_c-d'])
    test.doesNotThrow(() => checkName(name));
  for (const name of ['123', '-a', '.a', 'a b', 'ä', 'a/b', 'x'.repeat(65), 'a\n', '__proto__']) {
    test.throws(() => checkName(name), { code: 'REQUEST_INVALID', message: /a node name/ }, name);
  }
  const many = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, '']));
  for (const labels of [{}, { 'a/b.c_d-e': 'Universität 1' }, { constructor: '' }, many(32)]) {
    test.doesNotThrow(() => checkLabels(labels));
  }
  const proto = JSON.parse('{"__proto__":"x"}') as Record<string, string>;
  for (const labels of [
    { '': 'x' },
    { a: 'x\n' },
    { a: '\u202e' },
    { a: 'x'.repeat(129) },
    { 'a b': '' },
    many(33),
    proto,
  ]) {
    test.throws(() => checkLabels(labels), { code: 'REQUEST_INVALID' }, JSON.stringify(labels).slice(0, 60));
  }
  test.end();
});

void t.test('page tokens are accepted unchanged and for their own query only', test => {
  const token = makePageToken(['nodes', 'a'], 12345678901234567890n);
  test.equal(readPageToken(['nodes', 'a'], token), 12345678901234567890n);
  test.equal(readPageToken(['nodes', 'a'], ''), undefined);
  const refused = { code: 'REQUEST_INVALID' };
  test.throws(() => readPageToken(['nodes', 'b'], token), refused);
  const wrong = [
    'x',
    `${token}x`,
    `${token}=`,
    token.slice(0, -1),
    token.replace('M', 'N'),
    'a'.repeat(10_000),
  ];
  for (const each of wrong)
    test.throws(() => readPageToken(['nodes', 'a'], each), refused, each.slice(0, 50));
  test.equal(checkPageSize(), 100);
  for (const size of [0, -1, 1001, 1.5, Number.NaN]) test.throws(() => checkPageSize(size), refused);
  test.end();
});
