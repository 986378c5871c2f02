/**
 * Long-lived calls – watches, logs, exports, uploads, idle connections – end when their caller loses the permission.
 */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import { credentials, Metadata, type ChannelCredentials, type ServiceError } from '@grpc/grpc-js';
import { linkParty } from '../../../src/audit-log/party.js';
import { RollcallError } from '../../../src/base/errors.js';
import { ControlClient as Rollcall } from '../../../src/control-client/control-client.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { HeldRights, maxStreamsPerPrincipal } from '../../../src/link/doors/held-rights.js';
import type { Permission } from '../../../src/link/access/permissions.js';
import { watchRights } from '../../../src/link/access/rights-changes.js';
import type { User } from '../../../src/link/access/accounts/users.js';
import { AdministrationClient } from '../../../src/protocol/generated/rollcall/v1/administration.js';
import { ControlClient } from '../../../src/protocol/generated/rollcall/v1/control.js';
import { RunsClient, type NewRun } from '../../../src/protocol/generated/rollcall/v1/runs.js';
import { fromGrpcStatus } from '../../../src/protocol/status.js';
import { createManualClock, type ManualClock } from '../../harness/manual-clock.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { asLoggedIn, issueToken, makeUser } from '../../harness/operator.js';
import { connectHttp2, framed } from '../../harness/raw-link.js';
import { userParty } from '../../harness/parties.js';
import { openRunPort, type RunPort } from '../../harness/run-port.js';
import { newKey } from '../../harness/test-link.js';

interface Site extends RunPort {
  readonly clock: ManualClock;
}

/** A stream that somebody has open. */
interface Open {
  /** The code it ended with; `cut` where a protocol has no words for an end. */
  readonly ended: Promise<string>;
  /** Reads what was not read so far. */
  readonly readOn?: () => void;
  /** The condition on the received data. */
  readonly check?: (t: Test) => void;
}

interface Holder {
  readonly token: string;
  readonly tenant: string;
}

function connect<C extends { close(): void }>(
  t: Test,
  site: Site,
  { token }: Holder,
  Service: new (address: string, secure: ChannelCredentials) => C,
): { client: C; metadata: Metadata } {
  const client = new Service(`localhost:${site.port}`, credentials.createSsl(Buffer.from(site.ca)));
  t.teardown(() => client.close());
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return { client, metadata };
}

const codeOf = (error: ServiceError): string => fromGrpcStatus(error).code;

/** Some 10 MB of a log: more than the buffers on the way hold. */
const entries = 8_000;

async function fillLog(site: Site, tenant: string): Promise<void> {
  const audit = createAudit({ clock: site.clock });
  const event = { type: 'user.changed', subject: 'x'.repeat(1_000), by: linkParty } as const;
  for (let count = 0; count < entries; count += 1_000)
    await site.store.commit(Array.from({ length: 1_000 }, () => audit.auditChange(tenant, event)));
}

const newRun: NewRun = {
  appName: 'hello',
  appVersion: '1.0.0',
  appDigest: Buffer.alloc(32, 1),
  signer: newKey().publicKey.spki,
  signature: Buffer.from('signature'),
  configJson: '',
  archiveBytes: 1_000n,
  idempotencyKey: '',
};

interface Kind {
  readonly needs: Permission;
  readonly open: (t: Test, site: Site, holder: Holder) => Promise<Open>;
}

const kinds: Readonly<Record<string, Kind>> = {
  'a watch of all nodes': { needs: 'nodes:read', open: openWatch },
  'a watch of one’s own nodes': { needs: 'nodes:register', open: openWatch },
  'the log of a run, followed': {
    needs: 'runs:read',
    async open(t, site, holder) {
      const run = site.runs.add({ tenant: holder.tenant, status: 'running' });
      const { client, metadata } = connect(t, site, holder, RunsClient);
      const call = client.readRunLog({ run: run.id, after: 0n, limit: 0, follow: true }, metadata);
      call.on('data', () => undefined);
      const ended = new Promise<string>(resolve =>
        call.once('error', (e: ServiceError) => resolve(codeOf(e))),
      );
      await once(call, 'metadata');
      return { ended };
    },
  },
  'an upload of an app': {
    needs: 'runs:submit',
    async open(t, site, holder) {
      const { client, metadata } = connect(t, site, holder, RunsClient);
      const ended = new Promise<string>(resolve => {
        const call = client.startRun(metadata, error => resolve(error ? codeOf(error) : 'started'));
        call.on('error', () => undefined);
        call.write({ part: { $case: 'run', value: newRun } });
        call.write({ part: { $case: 'archive', value: Buffer.alloc(10) } });
      });
      // Earlier requests on the same connection have been accepted when this is answered.
      const later = (): Promise<void> =>
        new Promise(resolve => client.getRun({ run: 1n }, metadata, () => resolve()));
      await later();
      await later();
      const before = site.runs.started.length;
      return {
        ended,
        check: test => void test.equal(site.runs.started.length, before, 'nothing was started'),
      };
    },
  },
  'an export of the audit log over gRPC': {
    needs: 'audit:read',
    async open(t, site, holder) {
      const { client, metadata } = connect(t, site, holder, AdministrationClient);
      const call = client.exportAudit({}, metadata);
      let lines = 0;
      const ended = new Promise<string>(resolve => {
        call.once('error', (e: ServiceError) => resolve(codeOf(e)));
        call.once('end', () => resolve('complete'));
      });
      await once(call, 'metadata');
      call.pause();
      return {
        ended,
        readOn: () => void call.on('data', () => (lines += 1)).resume(),
        check: test => void test.ok(lines < entries, `${lines} lines`),
      };
    },
  },
  'an export of the audit log over HTTP': {
    needs: 'audit:read',
    async open(t, site, { token }) {
      const asked = request({
        ...{ host: '127.0.0.1', port: site.port, ca: site.ca, agent: false, path: '/v1/audit/export' },
        headers: { authorization: `Bearer ${token}` },
      }).end();
      t.teardown(() => asked.destroy());
      const [response] = (await once(asked, 'response')) as [IncomingMessage];
      let bytes = 0;
      const ended = new Promise<string>(resolve => {
        response.once('error', () => resolve('cut'));
        response.once('end', () => resolve('complete'));
      });
      return {
        ended,
        readOn: () => void response.on('data', (part: Buffer) => (bytes += part.length)),
        check: test => void test.ok(bytes < entries * 1_000, `${bytes} bytes`),
      };
    },
  },
};

async function openWatch(t: Test, site: Site, holder: Holder): Promise<Open> {
  const { client, metadata } = connect(t, site, holder, ControlClient);
  const call = client.watchNodes({ snapshot: false }, metadata);
  const seen: string[] = [];
  call.on('data', ({ node }: { node?: { name: string } }) => seen.push(node?.name ?? ''));
  const ended = new Promise<string>(resolve => call.once('error', (e: ServiceError) => resolve(codeOf(e))));
  await once(call, 'metadata');
  return { ended, check: test => void test.same(seen, []) };
}

interface Change {
  /** Ends the right. */
  readonly make: (site: Site, user: User) => unknown;
  /** The refusal that a new request would get. */
  readonly code: 'TOKEN_REFUSED' | 'NOT_ALLOWED';
}

const by = userParty('test');
const reason = { type: 'user.changed', by } as const;

const changes: Readonly<Record<string, Change>> = {
  'its holder is disabled': {
    make: ({ access }, { tenant, id }) => access.users.change(tenant, id, { enabled: false }, reason),
    code: 'TOKEN_REFUSED',
  },
  'its holder loses the role': {
    make: ({ access }, { tenant, id }) => access.users.change(tenant, id, { roles: ['idle'] }, reason),
    code: 'NOT_ALLOWED',
  },
  'the role loses the permission': {
    make: ({ access }, { tenant, name }) =>
      access.roles.define(tenant, { name, permissions: ['tokens:issue'] }, by),
    code: 'NOT_ALLOWED',
  },
  'its token is revoked': {
    make: async ({ access }, { tenant, id }) => {
      const [mine] = (await access.apiTokens.list(tenant)).filter(({ holder }) => holder === id);
      await access.apiTokens.revoke(tenant, mine?.id ?? '', { by });
    },
    code: 'TOKEN_REFUSED',
  },
  'the sessions of its holder end': {
    make: ({ access }, { tenant, id }) => access.users.change(tenant, id, { endSessions: true }, reason),
    code: 'TOKEN_REFUSED',
  },
  'every token of the tenant ends': {
    make: ({ access, clock }, { tenant }) => access.cutoffs.raise(tenant, { before: clock.now() }, by),
    code: 'TOKEN_REFUSED',
  },
  'the key that signed its token is dropped': {
    make: ({ access }) => access.keys.rotate({ dropOld: true }),
    code: 'TOKEN_REFUSED',
  },
  'its token runs out': { make: ({ clock }) => clock.advance(200_000), code: 'TOKEN_REFUSED' },
};

const tenant = 'acme';

/** Somebody who holds one permission by one role. */
async function makeHolder({ access, clock }: Site, name: string, needs: Permission) {
  await access.roles.define(tenant, { name, permissions: [needs] }, by);
  const user = await makeUser(access, name, [name], tenant);
  const token = await issueToken(access, user, 120_000);
  // A token that began in the very millisecond of a cutoff still counts.
  clock.advance(10);
  return { user, token };
}

void t.test('a long-lived call ends with the refusal that a new request would get', async t => {
  const clock = createManualClock();
  const site: Site = { ...(await openRunPort(t, { clock })), clock };
  await site.access.tenants.create(tenant, by);
  await site.access.roles.define(tenant, { name: 'idle', permissions: ['tokens:issue'] }, by);
  await fillLog(site, tenant);
  const operator = connect(t, site, { token: site.token, tenant }, ControlClient);
  /** Asks and answers so many questions: meanwhile the link acts on all that it knows at once. */
  const passTime = async (questions: number): Promise<string> => {
    for (let asked = 0; asked < questions; asked += 1)
      await new Promise<void>(resolve =>
        operator.client.getNode({ node: '1' }, operator.metadata, () => resolve()),
      );
    return 'goes on';
  };
  let holders = 0;
  for (const [kind, { needs, open }] of Object.entries(kinds)) {
    for (const [how, { make, code }] of Object.entries(changes)) {
      // A silent upload ends sooner.
      if (kind === 'an upload of an app' && how === 'its token runs out') continue;
      await t.test(`${kind} ends when ${how}`, async t => {
        const { user, token } = await makeHolder(site, `holder-${(holders += 1)}`, needs);
        const { ended, readOn, check } = await open(t, site, { token, tenant });
        await make(site, user);
        await passTime(5);
        readOn?.();
        const outcome = readOn ? await ended : await Promise.race([ended, passTime(20)]);
        t.equal(outcome, kind.endsWith('over HTTP') ? 'cut' : code);
        check?.(t);
      });
    }
  }
  await t.test('long-lived calls of every kind end when their tenant is deleted', async t => {
    const opened: (readonly [string, Open])[] = [];
    for (const [kind, { needs, open }] of Object.entries(kinds)) {
      const { token } = await makeHolder(site, `holder-${(holders += 1)}`, needs);
      opened.push([kind, await open(t, site, { token, tenant })]);
    }
    await site.access.tenants.remove(tenant, by);
    await passTime(5);
    for (const [kind, { ended, readOn, check }] of opened) {
      readOn?.();
      const outcome = readOn ? await ended : await Promise.race([ended, passTime(20)]);
      t.equal(outcome, kind.endsWith('over HTTP') ? 'cut' : 'TOKEN_REFUSED', kind);
      check?.(t);
    }
  });
});

void t.test('a client that exports the log gets the reason why the export was cut', async t => {
  const clock = createManualClock();
  const site: Site = { ...(await openRunPort(t, { clock })), clock };
  await site.access.tenants.create(tenant, by);
  await fillLog(site, tenant);
  const { user, token } = await makeHolder(site, 'reader', 'audit:read');
  const client = new Rollcall({ address: site.address(), rootCertificates: site.ca, token });
  t.teardown(() => client.close());
  const lines = client.audit.exportLines()[Symbol.asyncIterator]();
  await lines.next();
  await site.access.users.change(tenant, user.id, { enabled: false }, reason);
  const readAll = async (): Promise<void> => {
    while ((await lines.next()).done !== true);
  };
  await t.rejects(readAll(), { code: 'TOKEN_REFUSED' });
});

void t.test('a connection without requests ends when its caller loses all permissions', async t => {
  const clock = createManualClock();
  const site: Site = { ...(await openRunPort(t, { clock })), clock };
  await site.access.tenants.create(tenant, by);
  const [leaving, staying] = [
    await makeHolder(site, 'leaving', 'nodes:read'),
    await makeHolder(site, 'staying', 'nodes:read'),
  ];
  const idle = async ({ token }: { token: string }) => {
    const socket = connectTls({ host: '127.0.0.1', port: site.port, ca: site.ca, ALPNProtocols: ['h2'] });
    const peer = connectHttp2(socket);
    t.teardown(() => peer.destroy());
    const headers = {
      ...{ ':method': 'POST', ':path': '/rollcall.v1.Control/ListNodes', te: 'trailers' },
      ...{ 'content-type': 'application/grpc', authorization: `Bearer ${token}` },
    };
    const call = peer.session.request(headers).end(framed(Buffer.alloc(0)));
    const [trailers] = (await once(call.resume(), 'trailers')) as [Record<string, string>];
    t.equal(trailers['grpc-status'], '0');
    return socket;
  };
  const [ended, goesOn] = [await idle(leaving), await idle(staying)];
  await site.access.users.change(tenant, leaving.user.id, { enabled: false }, reason);
  if (!ended.closed) await once(ended, 'close');
  t.notOk(goesOn.destroyed, 'another one stays');
  clock.advance(6 * 60_000);
  if (!goesOn.closed) await once(goesOn, 'close');
  t.pass('and ends when nothing was asked on it for minutes');
});

const unchangedKeys = { watch: () => () => undefined };

function startRights(t: Test) {
  const clock = createManualClock();
  const store = createMemoryStore();
  const rights = new HeldRights({
    watchRights: listener => watchRights({ store, keys: unchangedKeys }, listener),
    clock,
  });
  t.teardown(() => rights.close());
  const principal = { ...asLoggedIn({ id: 'user:1', name: 'ada', tenant, roles: [] } as unknown as User) };
  return { clock, store, rights, principal };
}

const settled = (): Promise<void> => new Promise(resolve => setImmediate(resolve));
const gone = new RollcallError('TOKEN_REFUSED', 'gone');

void t.test('a permission that was lost during authentication is judged when the call is held', async t => {
  const { store, rights, principal } = startRights(t);
  const ends: unknown[] = [];
  const holding = {
    principal,
    judge: () => Promise.reject(gone),
    end: (why: unknown) => void ends.push(why),
  };
  const before = rights.changes;
  await store.commit([{ type: 'put', key: `t/${tenant}/user/user:1`, value: Buffer.of() }]);
  rights.hold(holding, before);
  await settled();
  t.same(ends, [gone]);
  rights.hold(holding, rights.changes);
  await settled();
  t.same(ends.length, 1, 'without a change nothing is judged');
});

void t.test('a held call is judged again only after changes that concern its holder', async t => {
  const { store, rights, principal } = startRights(t);
  let judged = 0;
  const judge = (): Promise<void> => Promise.resolve(void (judged += 1));
  rights.hold(
    { principal: { ...principal, tokenId: 'mine', session: 'here' }, judge, end: () => undefined },
    0,
  );
  const judgedBy = async (key: string): Promise<number> => {
    const before = judged;
    await store.commit([{ type: 'put', key, value: Buffer.of() }]);
    await settled();
    return judged - before;
  };
  const concerned = ['user/user:1', 'token/mine', 'family/here', 'role/any', 'cutoff'];
  for (const key of concerned) t.equal(await judgedBy(`t/${tenant}/${key}`), 1, key);
  t.equal(await judgedBy('access/denied/0000000000000001/mine'), 1, 'the deny list');
  for (const key of ['user/user:2', 'token/other', 'family/there', 'node/1', 'user-name/ada', 'audit/1'])
    t.equal(await judgedBy(`t/${tenant}/${key}`), 0, key);
  t.equal(await judgedBy('t/other/role/any'), 0, 'a role of another tenant');
  t.equal(await judgedBy('access/denied/0000000000000001/other'), 0);
});

void t.test('a revocation that could not be stored ends held calls within a minute', async t => {
  const { clock, rights, principal } = startRights(t);
  const ends: unknown[] = [];
  let holds = true;
  const judge = (): Promise<void> => (holds ? Promise.resolve() : Promise.reject(gone));
  rights.hold({ principal, judge, end: why => void ends.push(why) }, 0);
  clock.advance(60_000);
  await settled();
  t.same(ends, []);
  holds = false;
  clock.advance(60_000);
  await settled();
  t.same(ends, [gone]);
});

void t.test('a principal can hold a bounded number of streams', t => {
  const { rights, principal } = startRights(t);
  const hold = (who = principal) =>
    rights.holdStream({ principal: who, judge: () => Promise.resolve(), end: () => undefined }, 0);
  const held = Array.from({ length: maxStreamsPerPrincipal }, () => hold());
  t.throws(() => hold(), { code: 'LINK_BUSY' });
  t.throws(() => hold({ ...principal, tokenId: 'another' }), { code: 'LINK_BUSY' }, 'whatever the token');
  t.ok(hold({ ...principal, id: 'user:2' }), 'another principal has room');
  held[0]?.();
  held[0]?.();
  t.ok(hold(), 'one that ended makes room');
  t.throws(() => hold(), { code: 'LINK_BUSY' }, 'for one');
  t.end();
});
