/**
 * Every commit of access, held between the reads of its decision and its judgement, while another change would have
 * led to another decision: the stale decision does not win. docs/architecture/request.md has the same table.
 */
import t, { type Test } from 'tap';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeJwt, SignJWT } from 'jose';
import { Secret, TOTP } from 'otpauth';
import { linkParty } from '../../../src/audit-log/party.js';
import { isRollcallError } from '../../../src/base/errors.js';
import type { Principal } from '../../../src/link/access/principal.js';
import { createPasswords } from '../../../src/link/access/accounts/passwords.js';
import { systemRandom } from '../../../src/base/random.js';
import { Roles } from '../../../src/link/access/accounts/roles.js';
import { openSetup, type Setup } from '../../../src/link/access/login/first-admin.js';
import { Users } from '../../../src/link/access/accounts/users.js';
import { listEvents } from '../../../src/link/audit/query.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import type { Change, Expectation } from '../../../src/store/store.js';
import { issueToken, makeUser } from '../../harness/operator.js';
import { makeFolder } from '../../harness/folder.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { pausingStore } from '../../harness/stores.js';
import type { RouteName } from '../../../src/link/doors/access-table.js';
import { openAccessRig, origin, password, type AccessRig } from '../../harness/access-rig.js';

const otherPassword = 'another horse battery';

/** The two sides of a race, and its expected outcome. */
interface Race {
  readonly deed: string;
  readonly meanwhile: string;
  /** Everything before the deed, the deed itself, and the conflict while its commit is held. */
  readonly run: (rig: AccessRig) => Promise<{
    readonly act: () => Promise<unknown>;
    readonly conflict: () => Promise<unknown>;
    /** Looks at what is left; `result` is that of the deed, undefined when it was refused. */
    readonly check?: (test: Test, result: unknown) => Promise<unknown>;
  }>;
  /** The error code the deed must end with; undefined where it may go on with the new state. */
  readonly refused?: string;
}

const reason = { type: 'user.changed', by: linkParty } as const;
const code = (secret: string, clock: { now(): number }): string =>
  new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: clock.now() });
const factorSecret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ';

async function putOnFactor({ access }: AccessRig, name: string): Promise<void> {
  const { id } = await access.users.get('default', name);
  const secondFactor = { secret: factorSecret, lastStep: 0, recovery: [] };
  await access.users.change('default', id, { secondFactor }, reason);
}

/** Resets a password as an admin does. */
const reset = ({ administration, chief }: AccessRig, name: string): Promise<unknown> =>
  administration.changeUser(chief, name, { password: otherPassword });
const sessionsOf = async ({ pausing }: AccessRig): Promise<number> =>
  (await pausing.store.list({ prefix: 't/default/family/' })).length;
const isPasswordOf = async ({ access }: AccessRig, name: string, word: string): Promise<boolean> =>
  createPasswords(systemRandom).matches(word, (await access.users.get('default', name)).passwordHash, {
    party: 'test',
    isKnown: true,
  });

/** A person who is logged in, with the refresh token of that login. */
async function loggedIn(rig: AccessRig, name: string, roles: readonly string[], route?: RouteName) {
  await rig.withPassword(name, roles);
  const { accessToken, refreshToken = '' } = await rig.login(name);
  return { principal: await rig.principalOf(accessToken, route), accessToken, refreshToken };
}

const refresh = (rig: AccessRig, refresh_token: string): Promise<unknown> =>
  rig.grant({ grant_type: 'refresh_token', refresh_token });

/** Changes during a login. */
const loginRaces: readonly Race[] = [
  ...[false, true].map(isDated => ({
    deed: isDated ? 'login that renews the hash' : 'login',
    meanwhile: 'the password is reset',
    refused: 'LOGIN_REFUSED',
    async run(rig: AccessRig) {
      await rig.withPassword('ann', ['operator'], { isDated });
      return {
        act: () => rig.login('ann'),
        conflict: () => reset(rig, 'ann'),
        async check(test: Test) {
          test.equal(await sessionsOf(rig), 0, 'no session');
          test.ok(await isPasswordOf(rig, 'ann', otherPassword), 'the new password stays');
        },
      };
    },
  })),
  {
    deed: 'login with a second factor',
    meanwhile: 'the password is reset',
    refused: 'LOGIN_REFUSED',
    async run(rig) {
      await rig.withPassword('ann', ['operator']);
      await putOnFactor(rig, 'ann');
      return {
        act: () => rig.login('ann', { otp_code: code(factorSecret, rig.clock) }),
        conflict: () => reset(rig, 'ann'),
        check: async test => test.equal(await sessionsOf(rig), 0, 'no session'),
      };
    },
  },
  {
    deed: 'login with a second factor',
    meanwhile: 'the same code is used by another login',
    refused: 'LOGIN_REFUSED',
    async run(rig) {
      await rig.withPassword('ann', ['operator']);
      await putOnFactor(rig, 'ann');
      const login = () => rig.login('ann', { otp_code: code(factorSecret, rig.clock) });
      return {
        act: login,
        conflict: login,
        check: async test => test.equal(await sessionsOf(rig), 1, 'one session'),
      };
    },
  },
  {
    deed: 'login',
    meanwhile: 'a second factor is enabled',
    refused: 'OTP_REQUIRED',
    async run(rig) {
      await rig.withPassword('ann', ['operator']);
      return { act: () => rig.login('ann'), conflict: () => putOnFactor(rig, 'ann') };
    },
  },
  {
    deed: 'login',
    meanwhile: 'the account is disabled',
    refused: 'LOGIN_REFUSED',
    async run(rig) {
      await rig.withPassword('ann', ['operator']);
      return {
        act: () => rig.login('ann'),
        conflict: () => rig.administration.changeUser(rig.chief, 'ann', { enabled: false }),
        check: async test => test.equal(await sessionsOf(rig), 0, 'no session'),
      };
    },
  },
  ...(['a role is taken away', 'sessions from before are ended'] as const).map(meanwhile => ({
    deed: 'login',
    meanwhile,
    async run(rig: AccessRig) {
      await rig.withPassword('ann', ['operator', 'viewer']);
      return {
        act: () => rig.login('ann'),
        async conflict() {
          rig.clock.advance(5);
          if (meanwhile === 'a role is taken away')
            await rig.administration.changeUser(rig.chief, 'ann', { roles: ['viewer'] });
          else await rig.administration.endTokens(rig.chief, { before: rig.clock.now() });
        },
        async check(test: Test, result: unknown) {
          const { accessToken } = result as { accessToken: string };
          const roles = meanwhile === 'a role is taken away' ? ['viewer'] : ['operator', 'viewer'];
          test.same(decodeJwt(accessToken)['roles'], roles, 'the token says what is now so');
          test.match(await rig.principalOf(accessToken), { name: 'ann' }, 'and is good');
        },
      };
    },
  })),
];

const refreshRaces: readonly Race[] = [
  ...(
    [
      ['the account is disabled', rig => rig.administration.changeUser(rig.chief, 'ann', { enabled: false })],
      [
        'its sessions are ended',
        rig => rig.administration.changeUser(rig.chief, 'ann', { endSessions: true }),
      ],
      [
        'all tokens from before now are ended',
        rig => rig.administration.endTokens(rig.chief, { before: rig.clock.now() }),
      ],
      ['the session is ended', (rig, token) => rig.access.revokeToken(token, origin)],
    ] as const satisfies readonly (readonly [string, (rig: AccessRig, token: string) => Promise<unknown>])[]
  ).map(([meanwhile, conflict]) => ({
    deed: 'refresh',
    meanwhile,
    refused: 'TOKEN_REFUSED',
    async run(rig: AccessRig) {
      const { refreshToken } = await loggedIn(rig, 'ann', ['operator']);
      rig.clock.advance(5);
      return {
        act: () => refresh(rig, refreshToken),
        conflict: () => conflict(rig, refreshToken),
        async check(test: Test) {
          const left = await rig.pausing.store.list({ prefix: 't/default/family/' });
          for (const { value } of left)
            test.match(JSON.parse(Buffer.from(value).toString()), { rotations: 0 }, 'not rotated');
        },
      };
    },
  })),
  {
    deed: 'refresh of a node',
    meanwhile: 'the node is revoked',
    refused: 'TOKEN_REFUSED',
    async run(rig) {
      await rig.putNode('7');
      const { refreshToken } = await rig.access.issueNodeTokens({ tenant: 'default', id: 7n }, rig.chief);
      return { act: () => refresh(rig, refreshToken), conflict: () => rig.revokeNode('7') };
    },
  },
];

async function makeService(rig: AccessRig, settings: object = {}) {
  const { administration, chief } = rig;
  const { id } = await administration.createService(chief, 'nightly', { roles: ['viewer'], ...settings });
  const { secret } = await administration.makeServiceSecret(chief, id);
  return { id, bySecret: { grant_type: 'client_credentials', client_id: id, client_secret: secret } };
}

async function assertionFor(rig: AccessRig, id: string, key: KeyObject) {
  const claims = { iss: id, sub: id, aud: 'https://localhost', jti: 'one', exp: rig.clock.now() / 1000 + 60 };
  return {
    grant_type: 'client_credentials',
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: await new SignJWT(claims).setProtectedHeader({ alg: 'ES256' }).sign(key),
  };
}

const serviceRaces: readonly Race[] = [
  ...(
    [
      [
        'it is disabled',
        'LOGIN_REFUSED',
        ({ administration, chief }, id) => administration.changeService(chief, id, { enabled: false }),
      ],
      [
        'its secret is replaced twice',
        'LOGIN_REFUSED',
        async ({ administration, chief }, id) => {
          for (let n = 0; n < 2; n++) await administration.makeServiceSecret(chief, id);
        },
      ],
      [
        'it may ask from elsewhere only',
        'LOGIN_REFUSED',
        ({ administration, chief }, id) =>
          administration.changeService(chief, id, { addresses: ['10.0.0.0/8'] }),
      ],
      [
        'it is for another audience',
        'REQUEST_INVALID',
        ({ administration, chief }, id) =>
          administration.changeService(chief, id, { audiences: ['elsewhere'] }),
      ],
    ] as const satisfies readonly (readonly [
      string,
      string,
      (rig: AccessRig, id: string) => Promise<unknown>,
    ])[]
  ).map(([meanwhile, refused, conflict]) => ({
    deed: 'token of a service',
    meanwhile,
    refused,
    async run(rig: AccessRig) {
      const { id, bySecret } = await makeService(rig, { audiences: ['rollcall'] });
      const act = () => rig.grant({ ...bySecret, audience: 'rollcall' });
      return { act, conflict: () => conflict(rig, id) };
    },
  })),
  ...(['its tokens are ended', 'all tokens from before now are ended'] as const).map(meanwhile => ({
    deed: 'token of a service',
    meanwhile,
    async run(rig: AccessRig) {
      const { id, bySecret } = await makeService(rig);
      return {
        act: () => rig.grant(bySecret),
        async conflict() {
          rig.clock.advance(5);
          if (meanwhile === 'its tokens are ended')
            await rig.administration.changeService(rig.chief, id, { endTokens: true });
          else await rig.administration.endTokens(rig.chief, { before: rig.clock.now() });
        },
        async check(test: Test, result: unknown) {
          const { accessToken } = result as { accessToken: string };
          test.match(await rig.principalOf(accessToken), { name: 'nightly' }, 'the token is one from after');
        },
      };
    },
  })),
  {
    deed: 'token of a service by an assertion',
    meanwhile: 'the same assertion is used',
    refused: 'LOGIN_REFUSED',
    async run(rig) {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const publicKeys = [publicKey.export({ type: 'spki', format: 'pem' }).toString()];
      const { id } = await makeService(rig, { publicKeys });
      const asked = await assertionFor(rig, id, privateKey);
      return { act: () => rig.grant(asked), conflict: () => rig.grant(asked) };
    },
  },
  {
    deed: 'token of a service by an assertion',
    meanwhile: 'its key is removed',
    refused: 'LOGIN_REFUSED',
    async run(rig) {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const publicKeys = [publicKey.export({ type: 'spki', format: 'pem' }).toString()];
      const { id } = await makeService(rig, { publicKeys });
      const asked = await assertionFor(rig, id, privateKey);
      return {
        act: () => rig.grant(asked),
        conflict: () => rig.administration.changeService(rig.chief, id, { publicKeys: [] }),
      };
    },
  },
];

const accountRaces: readonly Race[] = (
  [
    [
      'change of the own password',
      ({ access }, principal) => access.account.changePassword(principal, password, 'the thief chose this'),
    ],
    [
      'second factor put on',
      ({ access, clock }, principal) =>
        access.account.confirmSecondFactor(principal, {
          secret: factorSecret,
          code: code(factorSecret, clock),
          password,
        }),
    ],
    [
      'second factor taken off',
      ({ access }, principal) => access.account.removeSecondFactor(principal, password),
    ],
  ] as const satisfies readonly (readonly [string, (rig: AccessRig, by: Principal) => Promise<unknown>])[]
).flatMap(([deed, act]) =>
  (
    [
      ['the password is reset', rig => reset(rig, 'ann')],
      [
        'the password becomes another, whose sessions go on',
        async ({ access }) => {
          const { id } = await access.users.get('default', 'ann');
          const passwordHash = await access.passwords.hash(otherPassword);
          await access.users.change('default', id, { passwordHash }, reason);
        },
      ],
      ['the account is disabled', rig => rig.administration.changeUser(rig.chief, 'ann', { enabled: false })],
      ['the session is ended', (rig, token) => rig.access.revokeToken(token, origin)],
    ] as const satisfies readonly (readonly [string, (rig: AccessRig, token: string) => Promise<unknown>])[]
  ).map(([meanwhile, conflict]) => ({
    deed,
    meanwhile,
    refused: meanwhile.includes('go on') ? 'LOGIN_REFUSED' : 'TOKEN_REFUSED',
    async run(rig: AccessRig) {
      const { principal, refreshToken } = await loggedIn(rig, 'ann', ['admin']);
      if (deed === 'second factor taken off') await putOnFactor(rig, 'ann');
      rig.clock.advance(5);
      const before = await rig.access.users.get('default', 'ann');
      return {
        act: () => act(rig, principal),
        conflict: () => conflict(rig, refreshToken),
        async check(test: Test) {
          const after = await rig.access.users.get('default', 'ann');
          test.same(after.secondFactor, before.secondFactor, 'the second factor is as it was');
          test.notOk(await isPasswordOf(rig, 'ann', 'the thief chose this'));
        },
      };
    },
  })),
);

/** Another tenant, whose admin is wanda. */
const makeWard = ({ administration, chief }: AccessRig): Promise<unknown> =>
  administration.createTenant(chief, { name: 'ward', admin: 'wanda', password });

/** Everything an admin or a user does by a token, with something to do it to. */
interface Deed {
  readonly name: string;
  readonly route: RouteName;
  readonly prepare?: (rig: AccessRig) => Promise<unknown>;
  readonly act: (rig: AccessRig, by: Principal) => Promise<unknown>;
}

const deeds: readonly Deed[] = [
  {
    name: 'user created',
    route: 'POST /v1/users',
    act: ({ administration }, by) =>
      administration.createUser(by, { name: 'new', roles: ['viewer'], password }),
  },
  {
    name: 'user changed',
    route: 'PATCH /v1/users/:user',
    prepare: rig => rig.withPassword('ann', ['viewer']),
    act: ({ administration }, by) => administration.changeUser(by, 'ann', { roles: ['operator'] }),
  },
  {
    name: 'user deleted',
    route: 'DELETE /v1/users/:user',
    prepare: rig => rig.withPassword('ann', ['viewer']),
    act: ({ administration }, by) => administration.deleteUser(by, 'ann'),
  },
  {
    name: 'service deleted',
    route: 'DELETE /v1/services/:service',
    prepare: rig => makeService(rig),
    act: ({ administration }, by) => administration.deleteService(by, 'nightly'),
  },
  {
    name: 'role defined',
    route: 'PUT /v1/roles/:role',
    act: ({ administration }, by) =>
      administration.defineRole(by, { name: 'lab', permissions: ['nodes:read'] }),
  },
  {
    name: 'role removed',
    route: 'DELETE /v1/roles/:role',
    prepare: ({ access }) => access.roles.define('default', { name: 'lab', permissions: [] }, linkParty),
    act: ({ administration }, by) => administration.removeRole(by, 'lab'),
  },
  {
    name: 'service created',
    route: 'POST /v1/services',
    act: ({ administration }, by) => administration.createService(by, 'new', { roles: ['viewer'] }),
  },
  {
    name: 'service changed',
    route: 'PATCH /v1/services/:service',
    prepare: rig => makeService(rig),
    act: ({ administration }, by) => administration.changeService(by, 'nightly', { enabled: false }),
  },
  {
    name: 'secret of a service made',
    route: 'POST /v1/services/:service/secret',
    prepare: rig => makeService(rig),
    act: ({ administration }, by) => administration.makeServiceSecret(by, 'nightly'),
  },
  {
    name: 'API token revoked',
    route: 'DELETE /v1/tokens/:token',
    prepare: rig => rig.person('vera', ['viewer']),
    async act({ administration, access }, by) {
      const token = (await access.apiTokens.list('default')).find(({ holderName }) => holderName === 'vera');
      await administration.revokeToken(by, token?.id ?? '');
    },
  },
  {
    name: 'all tokens ended',
    route: 'POST /v1/tokens/end',
    act: ({ administration, clock }, by) => administration.endTokens(by, { before: clock.now() - 60_000 }),
  },
  {
    name: 'keys rotated',
    route: 'POST /v1/keys/rotate',
    act: ({ administration }, by) => administration.rotateKeys(by, {}),
  },
  {
    name: 'secret of an audience read',
    route: 'GET /v1/keys/:audience/secret',
    prepare: ({ access }) => access.keys.secretOf('studio'),
    act: ({ administration }, by) => administration.secretOf(by, 'studio'),
  },
  {
    name: 'tenant created',
    route: 'POST /v1/tenants',
    act: ({ administration }, by) =>
      administration.createTenant(by, { name: 'ward', admin: 'wanda', password }),
  },
  {
    name: 'tenant deleted',
    route: 'DELETE /v1/tenants/:tenant',
    prepare: rig => makeWard(rig),
    act: ({ administration }, by) => administration.deleteTenant(by, 'ward'),
  },
  {
    name: 'tokens of a node issued',
    route: 'POST /v1/nodes/:node/config',
    prepare: rig => rig.putNode('7'),
    act: ({ access }, by) => access.issueNodeTokens({ tenant: 'default', id: 7n }, by),
  },
];

const rightsRaces: readonly Race[] = deeds.flatMap(({ name, route, prepare, act }) =>
  (
    [
      ['its caller is disabled', 'TOKEN_REFUSED', { enabled: false }],
      // A caller may end its own API tokens without a role; those of others are then missing.
      [
        'its caller loses the role',
        name === 'API token revoked' ? 'NOT_FOUND' : 'NOT_ALLOWED',
        { roles: [] },
      ],
    ] as const
  ).map(([meanwhile, refused, change]) => ({
    deed: name,
    meanwhile,
    refused,
    async run(rig: AccessRig) {
      await prepare?.(rig);
      const by = await rig.person('max', ['admin'], route);
      rig.clock.advance(5);
      return {
        act: () => act(rig, by),
        conflict: () => rig.administration.changeUser(rig.chief, 'max', change),
      };
    },
  })),
);

/** A manager of people and services who holds little else. */
async function makeManager(rig: AccessRig): Promise<Principal> {
  const permissions = ['users:manage', 'services:manage', 'nodes:read', 'tokens:issue'];
  await rig.access.roles.define('default', { name: 'manager', permissions }, linkParty);
  await rig.access.roles.define('default', { name: 'lab', permissions: ['nodes:read'] }, linkParty);
  return rig.person('mona', ['manager', 'lab']);
}

const widen = (rig: AccessRig): Promise<unknown> =>
  rig.administration.defineRole(rig.chief, { name: 'lab', permissions: ['audit:read'] });

const targetRaces: readonly Race[] = [
  ...(
    [
      [
        'user created',
        'a role of it is removed',
        'REQUEST_INVALID',
        rig => rig.administration.removeRole(rig.chief, 'lab'),
      ],
      [
        'user created',
        'a role it gets allows more than its maker holds',
        'NOT_ALLOWED',
        async rig => {
          await rig.administration.changeUser(rig.chief, 'mona', { roles: ['manager'] });
          await widen(rig);
        },
      ],
    ] as const satisfies readonly (readonly [string, string, string, (rig: AccessRig) => Promise<unknown>])[]
  ).map(([deed, meanwhile, refused, conflict]) => ({
    ...{ deed, meanwhile, refused },
    async run(rig: AccessRig) {
      const mona = await makeManager(rig);
      return {
        act: () => rig.administration.createUser(mona, { name: 'new', roles: ['lab'], password }),
        conflict: () => conflict(rig),
        check: async (test: Test) =>
          test.equal(await rig.access.users.findByName('default', 'new'), undefined),
      };
    },
  })),
  {
    deed: 'password reset by a manager',
    meanwhile: 'the account becomes an admin',
    refused: 'NOT_ALLOWED',
    async run(rig) {
      const mona = await makeManager(rig);
      await rig.withPassword('ann', ['lab']);
      return {
        act: () => rig.administration.changeUser(mona, 'ann', { password: otherPassword }),
        conflict: () => rig.administration.changeUser(rig.chief, 'ann', { roles: ['admin'] }),
        check: async test => test.ok(await isPasswordOf(rig, 'ann', password), 'the password is as it was'),
      };
    },
  },
  {
    deed: 'role granted to a user',
    meanwhile: 'the role is removed',
    refused: 'REQUEST_INVALID',
    async run(rig) {
      const mona = await makeManager(rig);
      await rig.withPassword('ann', []);
      return {
        act: () => rig.administration.changeUser(mona, 'ann', { roles: ['lab'] }),
        conflict: () => rig.administration.removeRole(rig.chief, 'lab'),
      };
    },
  },
  ...(['secret of a service made', 'service changed'] as const).map(deed => ({
    deed: `${deed} by a manager`,
    meanwhile: 'the service becomes an admin',
    refused: 'NOT_ALLOWED',
    async run(rig: AccessRig) {
      const mona = await makeManager(rig);
      const { administration, chief } = rig;
      await administration.createService(chief, 'nightly', { roles: ['lab'] });
      return {
        act: () =>
          deed === 'service changed'
            ? administration.changeService(mona, 'nightly', { certificates: ['a'.repeat(43)] })
            : administration.makeServiceSecret(mona, 'nightly'),
        conflict: () => administration.changeService(chief, 'nightly', { roles: ['admin'] }),
      };
    },
  })),
  {
    deed: 'service created',
    meanwhile: 'a role of it is removed',
    refused: 'REQUEST_INVALID',
    async run(rig) {
      const mona = await makeManager(rig);
      return {
        act: () => rig.administration.createService(mona, 'new', { roles: ['lab'] }),
        conflict: () => rig.administration.removeRole(rig.chief, 'lab'),
      };
    },
  },
  {
    deed: 'tenant created',
    meanwhile: 'the same tenant is created',
    refused: 'NAME_TAKEN',
    run({ administration, chief }) {
      const create = (name: string) => administration.createTenant(chief, { name, admin: 'wanda', password });
      return Promise.resolve({ act: () => create('ward'), conflict: () => create('WARD') });
    },
  },
  ...(['an admin disabled', 'an admin deleted'] as const).map(deed => ({
    deed,
    meanwhile: 'the only other admin is deleted',
    refused: 'REQUEST_INVALID',
    async run(rig: AccessRig) {
      const max = await rig.person('max', ['admin']);
      return {
        act: () =>
          deed === 'an admin deleted'
            ? rig.administration.deleteUser(max, 'max')
            : rig.administration.changeUser(max, 'max', { enabled: false }),
        conflict: () => rig.administration.deleteUser(rig.chief, 'chief'),
      };
    },
  })),
  ...(
    [
      ['login', 'LOGIN_REFUSED', rig => rig.login('ann')],
      [
        'user changed',
        'NOT_FOUND',
        rig => rig.administration.changeUser(rig.chief, 'ann', { enabled: true }),
      ],
      ['user deleted', 'NOT_FOUND', rig => rig.administration.deleteUser(rig.chief, 'ann')],
    ] as const satisfies readonly (readonly [string, string, (rig: AccessRig) => Promise<unknown>])[]
  ).map(([deed, refused, act]) => ({
    ...{ deed, refused, meanwhile: 'the user is deleted, and another of that name is made' },
    async run(rig: AccessRig) {
      await rig.withPassword('ann', ['viewer']);
      return {
        act: () => act(rig),
        async conflict() {
          await rig.administration.deleteUser(rig.chief, 'ann');
          await rig.withPassword('ann', ['viewer']);
        },
        check: async (test: Test) =>
          test.ok(await rig.access.users.findByName('default', 'ann'), 'the other stays'),
      };
    },
  })),
  {
    deed: 'user deleted by a manager',
    meanwhile: 'the account becomes an admin',
    refused: 'NOT_ALLOWED',
    async run(rig) {
      const mona = await makeManager(rig);
      await rig.withPassword('ann', ['lab']);
      return {
        act: () => rig.administration.deleteUser(mona, 'ann'),
        conflict: () => rig.administration.changeUser(rig.chief, 'ann', { roles: ['admin'] }),
      };
    },
  },
  {
    deed: 'token of a service',
    meanwhile: 'the service is deleted, and another of that name is made',
    refused: 'LOGIN_REFUSED',
    async run(rig) {
      const { bySecret } = await makeService(rig);
      return {
        act: () => rig.grant({ ...bySecret, client_id: 'nightly' }),
        async conflict() {
          await rig.administration.deleteService(rig.chief, 'nightly');
          await makeService(rig);
        },
      };
    },
  },
  {
    deed: 'an admin disabled',
    meanwhile: 'the only other admin is disabled',
    refused: 'REQUEST_INVALID',
    async run(rig) {
      const max = await rig.person('max', ['admin']);
      return {
        act: () => rig.administration.changeUser(max, 'max', { enabled: false }),
        conflict: () => rig.administration.changeUser(rig.chief, 'chief', { enabled: false }),
      };
    },
  },
  ...(
    [
      [
        'the role of its maker is taken away',
        'NOT_ALLOWED',
        rig => rig.administration.changeUser(rig.chief, 'ann', { roles: ['viewer'] }),
      ],
      [
        'a role it names allows more than its maker holds',
        'NOT_ALLOWED',
        async rig => {
          await rig.administration.changeUser(rig.chief, 'ann', { roles: ['operator'] });
          await widen(rig);
        },
      ],
      [
        'a role it names is removed',
        'REQUEST_INVALID',
        rig => rig.administration.removeRole(rig.chief, 'lab'),
      ],
      [
        'the account is disabled',
        'TOKEN_REFUSED',
        rig => rig.administration.changeUser(rig.chief, 'ann', { enabled: false }),
      ],
      ['the session is ended', 'TOKEN_REFUSED', (rig, token) => rig.access.revokeToken(token, origin)],
    ] as const satisfies readonly (readonly [
      string,
      string,
      (rig: AccessRig, token: string) => Promise<unknown>,
    ])[]
  ).map(([meanwhile, refused, conflict]) => ({
    deed: 'API token issued',
    meanwhile,
    refused,
    async run(rig: AccessRig) {
      await rig.access.roles.define('default', { name: 'lab', permissions: ['nodes:read'] }, linkParty);
      const { principal, refreshToken } = await loggedIn(rig, 'ann', ['operator', 'lab'], 'POST /v1/tokens');
      rig.clock.advance(5);
      const wanted = { name: 'program', roles: ['lab'], lifetimeMs: 3_600_000 };
      return {
        act: () => rig.administration.issueToken(principal, wanted),
        conflict: () => conflict(rig, refreshToken),
        async check(test: Test) {
          const names = (await rig.access.apiTokens.list('default')).map(({ name }) => name);
          test.notOk(names.includes('program'), 'no token is made');
        },
      };
    },
  })),
  ...(
    [
      ['has all sessions ended', undefined, { endSessions: true }],
      ['is disabled', 'REQUEST_INVALID', { enabled: false }],
      ['loses the role', 'REQUEST_INVALID', { roles: [] }],
      ['gets more permissions than the creator', 'NOT_ALLOWED', { roles: ['admin'] }],
    ] as const
  ).map(([what, refused, change]) => ({
    deed: 'API token issued for another user',
    meanwhile: `the user ${what}`,
    ...(refused !== undefined && { refused }),
    async run(rig: AccessRig) {
      await rig.person('vera', ['viewer']);
      await rig.access.roles.define(
        'default',
        {
          name: 'boss',
          permissions: ['users:manage', 'tokens:issue', 'nodes:read', 'runs:read', 'metrics:read'],
        },
        linkParty,
      );
      const { principal } = await loggedIn(rig, 'ann', ['boss'], 'POST /v1/tokens');
      const wanted = { name: 'program', roles: ['viewer'], lifetimeMs: 3_600_000, user: 'vera' };
      return {
        act: () => rig.administration.issueToken(principal, wanted),
        conflict: () => rig.administration.changeUser(rig.chief, 'vera', change),
        async check(test: Test, result: unknown) {
          if (refused !== undefined) return;
          const { token } = result as { token: string };
          test.match(await rig.principalOf(token), { name: 'vera' }, 'the token is one from after');
        },
      };
    },
  })),
  {
    deed: 'tokens of a node issued',
    meanwhile: 'the node is revoked',
    refused: 'NODE_REVOKED',
    async run(rig) {
      await rig.putNode('7');
      return {
        act: () => rig.access.issueNodeTokens({ tenant: 'default', id: 7n }, rig.chief),
        conflict: () => rig.revokeNode('7'),
        check: async test => test.equal(await sessionsOf(rig), 0, 'no session'),
      };
    },
  },
];

const sessionRaces: readonly Race[] = [
  ...(['API token', 'token of a service'] as const).map(which => ({
    deed: `${which} revoked by its holder`,
    meanwhile: 'it is revoked',
    async run(rig: AccessRig) {
      const { access } = rig;
      const token =
        which === 'API token'
          ? await issueToken(access, await makeUser(access, 'ann', ['viewer']))
          : (await rig.grant((await makeService(rig)).bySecret)).accessToken;
      const revoke = () => access.revokeToken(token, origin);
      return {
        act: revoke,
        conflict: revoke,
        async check(test: Test) {
          await test.rejects(rig.principalOf(token), { code: 'TOKEN_REFUSED' });
          const entries = await rig.pausing.store.list({ prefix: 't/default/audit/' });
          const told = entries.filter(({ value }) => String(value).includes('"token.revoked"'));
          test.equal(told.length, 1, 'and is told of once');
        },
      };
    },
  })),
  {
    deed: 'session ended by its holder',
    meanwhile: 'its token is exchanged',
    async run(rig) {
      const { refreshToken } = await loggedIn(rig, 'ann', ['operator']);
      return {
        act: () => rig.access.revokeToken(refreshToken, origin),
        conflict: () => refresh(rig, refreshToken),
        check: async test => test.equal(await sessionsOf(rig), 0, 'no session is left'),
      };
    },
  },
  {
    deed: 'session ended by its access token',
    meanwhile: 'its refresh token is exchanged',
    async run(rig) {
      const { accessToken, refreshToken } = await loggedIn(rig, 'ann', ['operator']);
      return {
        act: () => rig.access.revokeToken(accessToken, origin),
        conflict: () => refresh(rig, refreshToken),
        check: async test => test.equal(await sessionsOf(rig), 0, 'no session is left'),
      };
    },
  },
  {
    deed: 'session ended for a reused token',
    meanwhile: 'the session is ended',
    refused: 'TOKEN_REFUSED',
    async run(rig) {
      const { refreshToken } = await loggedIn(rig, 'ann', ['operator']);
      await refresh(rig, refreshToken);
      rig.clock.advance(60_000);
      return {
        act: () => refresh(rig, refreshToken),
        conflict: () => rig.access.revokeToken(refreshToken, origin),
      };
    },
  },
  {
    deed: 'unused session ended',
    meanwhile: 'the session is ended',
    refused: 'TOKEN_REFUSED',
    async run(rig) {
      const { refreshToken } = await loggedIn(rig, 'ann', ['operator']);
      rig.clock.step(31 * 86_400_000);
      return {
        act: () => refresh(rig, refreshToken),
        conflict: () => rig.access.revokeToken(refreshToken, origin),
      };
    },
  },
  {
    deed: 'role changed',
    meanwhile: 'it is removed',
    async run(rig) {
      const by = await rig.person('max', ['admin'], 'PUT /v1/roles/:role');
      const define = (permissions: readonly string[]) =>
        rig.administration.defineRole(by, { name: 'lab', permissions });
      await define(['nodes:read']);
      return {
        act: () => define(['runs:read']),
        conflict: () => rig.administration.removeRole(rig.chief, 'lab'),
        async check(test) {
          const events = await rig.pausing.store.list({
            prefix: 't/default/audit/',
            reverse: true,
            limit: 1,
          });
          test.match(String(events[0]?.value), /"role.defined"/, 'and is told of as a new one');
        },
      };
    },
  },
];

/** Changes in a tenant while it is deleted. */
const wardRaces: readonly Race[] = (
  [
    ['login', 'LOGIN_REFUSED', rig => rig.login('wanda', { tenant: 'ward' })],
    [
      'login with a second factor',
      'LOGIN_REFUSED',
      rig => rig.login('fay', { tenant: 'ward', otp_code: code(factorSecret, rig.clock) }),
    ],
    ['refresh', 'TOKEN_REFUSED', (rig, { refreshToken }) => refresh(rig, refreshToken)],
    ['token of a service', 'LOGIN_REFUSED', (rig, { bySecret }) => rig.grant(bySecret)],
    [
      'user created',
      'TOKEN_REFUSED',
      ({ administration }, { wanda }) =>
        administration.createUser(wanda, { name: 'new', roles: ['viewer'], password }),
    ],
    [
      'service created',
      'TOKEN_REFUSED',
      ({ administration }, { wanda }) => administration.createService(wanda, 'new', {}),
    ],
    [
      'role defined',
      'TOKEN_REFUSED',
      ({ administration }, { wanda }) =>
        administration.defineRole(wanda, { name: 'lab', permissions: ['nodes:read'] }),
    ],
    [
      'API token issued',
      'TOKEN_REFUSED',
      ({ administration }, { wanda }) =>
        administration.issueToken(wanda, { name: 'program', roles: ['viewer'], lifetimeMs: 3_600_000 }),
    ],
    [
      'change of the own password',
      'TOKEN_REFUSED',
      ({ access }, { wanda }) => access.account.changePassword(wanda, password, otherPassword),
    ],
    [
      'all tokens ended',
      'TOKEN_REFUSED',
      ({ administration, clock }, { wanda }) => administration.endTokens(wanda, { before: clock.now() }),
    ],
    [
      'tokens of a node issued',
      'TOKEN_REFUSED',
      ({ access }, { wanda }) => access.issueNodeTokens({ tenant: 'ward', id: 7n }, wanda),
    ],
    ['tenant deleted', undefined, ({ administration, chief }) => administration.deleteTenant(chief, 'ward')],
  ] as const satisfies readonly (readonly [
    string,
    string | undefined,
    (rig: AccessRig, ward: Ward) => Promise<unknown>,
  ])[]
).map(([deed, refused, act]) => ({
  ...{ deed, meanwhile: 'its tenant is deleted' },
  ...(refused !== undefined && { refused }),
  async run(rig: AccessRig) {
    const ward = await openWard(rig);
    const kept = async () =>
      (await rig.pausing.store.list({ prefix: 't/ward/' }))
        .filter(({ key }) => !/^t.ward.(audit|cutoff)/.test(key))
        .map(({ key, value }) => `${key} ${String(value)}`);
    const before = await kept();
    return {
      act: () => act(rig, ward),
      conflict: () => rig.administration.deleteTenant(rig.chief, 'ward'),
      async check(test: Test) {
        test.same(await kept(), before, 'nothing of it has changed');
        await test.rejects(rig.principalOf(ward.accessToken), { code: 'TOKEN_REFUSED' });
        const told = await listEvents(rig.pausing.store, 'ward', { limit: 100 });
        test.equal(told.filter(({ type }) => type === 'tenant.deleted').length, 1, 'told of once');
        test.equal(told.at(-1)?.type, 'tenant.deleted', 'and nothing after it');
      },
    };
  },
}));

interface Ward {
  readonly wanda: Principal;
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly bySecret: Readonly<Record<string, string>>;
}

/** With an admin who is logged in, one with a second factor, a service and a node. */
async function openWard(rig: AccessRig): Promise<Ward> {
  const { access, administration } = rig;
  await makeWard(rig);
  const { accessToken, refreshToken = '' } = await rig.login('wanda', { tenant: 'ward' });
  const wanda = await rig.principalOf(accessToken);
  const { id } = await administration.createUser(wanda, { name: 'fay', roles: ['viewer'], password });
  const secondFactor = { secret: factorSecret, lastStep: 0, recovery: [] };
  await access.users.change('ward', id, { secondFactor }, reason);
  const service = await administration.createService(wanda, 'nightly', { roles: ['viewer'] });
  const { secret } = await administration.makeServiceSecret(wanda, service.id);
  await rig.pausing.store.commit([{ type: 'put', key: 't/ward/node/7', value: Buffer.from('node') }]);
  rig.clock.advance(5);
  const bySecret = { grant_type: 'client_credentials', client_id: service.id, client_secret: secret };
  return { wanda, accessToken, refreshToken, bySecret };
}

const tenantRaces: readonly Race[] = [
  ...wardRaces,
  {
    deed: 'tenant without a user completed',
    meanwhile: 'it is deleted',
    refused: 'NAME_TAKEN',
    async run({ access, administration, chief }) {
      await access.tenants.create('ward', linkParty);
      return {
        act: () => administration.createTenant(chief, { name: 'ward', admin: 'wanda', password }),
        conflict: () => administration.deleteTenant(chief, 'ward'),
        check: async test => test.same(await access.users.list('ward'), []),
      };
    },
  },
  {
    deed: 'tenant deleted',
    meanwhile: 'its tokens are ended',
    async run(rig) {
      const { wanda } = await openWard(rig);
      return {
        act: () => rig.administration.deleteTenant(rig.chief, 'ward'),
        conflict: () => rig.administration.endTokens(wanda, { before: rig.clock.now() }),
        async check(test) {
          const { before, isDeleted } = await rig.access.cutoffs.read(rig.pausing.store, 'ward');
          test.same([before, isDeleted], [rig.clock.now(), true], 'both are kept');
        },
      };
    },
  },
];

const races = [
  ...tenantRaces,
  ...loginRaces,
  ...refreshRaces,
  ...serviceRaces,
  ...accountRaces,
  ...rightsRaces,
  ...targetRaces,
  ...sessionRaces,
];

const turn = (): Promise<void> => new Promise(setImmediate);

for (const { deed, meanwhile, refused, run } of races) {
  void t.test(`race: ${deed}, while ${meanwhile}`, async test => {
    const rig = await openAccessRig(test);
    const { act, conflict, check } = await run(rig);
    const paused = rig.pausing.pause();
    const acting = act().then(
      result => ({ result, code: undefined }),
      (error: unknown) => ({
        result: undefined,
        code: isRollcallError(error) ? error.code : String(error),
      }),
    );
    const isHeld = await Promise.race([paused.held.then(() => true), acting.then(() => false)]);
    if (!isHeld) paused.resume();
    test.ok(isHeld, 'it commits');
    await conflict();
    await turn();
    paused.resume();
    const { result, code: ended } = await acting;
    test.equal(ended, refused, refused === undefined ? 'it goes on' : 'it is refused');
    await check?.(test, result);
  });
}

void t.test('race: set-up, while another set-up makes the first admin', async test => {
  const pausing = pausingStore(createMemoryStore());
  const clock = createManualClock();
  const audit = createAudit({ clock });
  const open = async () => {
    const { store } = pausing;
    const users = new Users({
      store,
      audit,
      clock,
      random: systemRandom,
      roles: new Roles({ store, audit }),
    });
    const passwords = createPasswords(systemRandom, { logN: 4, r: 8, p: 1 });
    const setup = await openSetup({ folder: await makeFolder(test), random: systemRandom, users, passwords });
    return { users, complete: (name: string) => setup.complete(codeOf(setup), name, password, origin) };
  };
  const [one, other] = [await open(), await open()];
  const paused = pausing.pause();
  const late = test.rejects(one.complete('eve'), { code: 'LOGIN_REFUSED' });
  await paused.held;
  test.match(await other.complete('ann'), { name: 'ann' });
  paused.resume();
  await late;
  test.match(await one.users.list('default'), [{ name: 'ann' }]);
  const { address, requestId } = origin;
  const [user] = await one.users.list('default');
  test.match(await listEvents(pausing.store, 'default', { limit: 10 }), [
    {
      type: 'setup.completed',
      by: { kind: 'setup' },
      subject: user?.id,
      detail: { name: 'ann' },
      address,
      requestId,
    },
  ]);
});

const codes = new WeakMap<Setup, string>();
function codeOf(setup: Setup): string {
  const code = codes.get(setup) ?? setup.tell() ?? '';
  codes.set(setup, code);
  return code;
}

/** They only point to a record, which is an expectation itself: an id is never reused. */
const neverChanges = [/^t\/[^/]+\/(user|service)-name\//, /^access\/(service|family)\//];
/** Known addresses of accounts are not part of a decision. */
const isDecided = (changes: readonly Change[]): boolean =>
  changes.some(change => change.type === 'append' || !change.key.startsWith('access/known/'));

void t.test('each change of accounts is one commit, which expects every record it has read', async test => {
  const told = new Set<string>(['setup.completed']);
  const distinct = new Map(races.map(race => [race.deed, race]));
  for (const [deed, { run }] of distinct) {
    const rig = await openAccessRig(test);
    const { act } = await run(rig);
    const commits: (readonly Expectation[])[] = [];
    rig.pausing.onCommit = (changes, expectations) => {
      if (isDecided(changes)) commits.push(expectations);
    };
    rig.pausing.reads.clear();
    await act().catch((error: unknown) => {
      if (!isRollcallError(error, 'TOKEN_REFUSED')) throw error;
    });
    test.equal(commits.length, 1, `${deed}: one commit`);
    const expected = new Set(commits.flat().map(({ key }) => key));
    const unexpected = [...rig.pausing.reads].filter(
      key => !expected.has(key) && !neverChanges.some(each => each.test(key)),
    );
    test.same(unexpected, [], `${deed}: reads that nobody expects to be so still`);
    for (const { value } of await rig.pausing.store.list({ prefix: 't/default/audit/' }))
      told.add((JSON.parse(Buffer.from(value).toString()) as { type: string }).type);
  }
  const source = (name: string): string => readFileSync(join(room, name), 'utf8');
  const room = join(import.meta.dirname, '../../../src/link/access');
  const files = readdirSync(room, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'));
  const types = new Set(
    files.flatMap(name =>
      [...source(name).matchAll(/'((?:[a-z]+\.[a-z-]+)|login)'/g)].map(([, type]) => type),
    ),
  );
  const untold = [...types].filter(
    type => type !== undefined && !told.has(type) && !type.startsWith('security.'),
  );
  test.same(untold, [], 'an event of a deed that is not in this table');
  const committing = files.filter(name => source(name).includes('store.commit(')).sort();
  test.same(
    committing,
    ['login/known-places.ts', 'records.ts', 'tokens/deny-list.ts'],
    'every other commit goes by decide()',
  );
});

void t.test('the audit log states who did what to whom, from where and in which request', async test => {
  const rig = await openAccessRig(test);
  const { access, administration, chief, clock } = rig;
  const { account } = access;
  const { principal, refreshToken } = await loggedIn(rig, 'ann', ['operator'], 'POST /v1/tokens');
  const later = () => clock.advance(60_000);
  const proposal = account.proposeSecondFactor(principal);
  const confirmed = { secret: proposal.secret, code: code(proposal.secret, clock), password };
  const { recoveryCodes } = await account.confirmSecondFactor(principal, confirmed);
  later();
  await rig.login('ann', { otp_code: code(proposal.secret, clock) });
  await rig.login('ann', { otp_code: recoveryCodes[0] ?? '' });
  await account.removeSecondFactor(principal, password);
  const wanted = { name: 'program', roles: ['viewer'], lifetimeMs: 3_600_000 };
  const { record, token } = await administration.issueToken(principal, wanted);
  await administration.revokeToken(principal, record.id);
  const other = await administration.issueToken(principal, wanted);
  await access.revokeToken(other.token, origin);
  await access.revokeToken(refreshToken, origin);
  const again = await rig.login('ann');
  await account.changePassword(await rig.principalOf(again.accessToken), password, otherPassword);
  const { id, bySecret } = await makeService(rig);
  const { accessToken } = await rig.grant(bySecret);
  await access.revokeToken(accessToken, origin);
  await rig.putNode('7');
  await access.issueNodeTokens({ tenant: 'default', id: 7n }, chief);
  await access.keys.secretOf('studio');
  await administration.secretOf(chief, 'studio');
  await administration.endTokens(chief, { before: clock.now() - 3_600_000 });

  const [ann, boss] = [
    { kind: 'user', id: principal.id, name: 'ann' },
    { kind: 'user', id: chief.id, name: 'chief' },
  ];
  const service = { kind: 'service', id, name: 'nightly' };
  const tokenId = decodeJwt(accessToken).jti ?? '';
  const sid = /^[0-9a-f]{32}$/;
  const told: readonly (readonly [type: string, by: object, subject: string, detail?: object])[] = [
    ['login', ann, principal.id, { session: sid, userAgent: 'test' }],
    ['user.second-factor-on', ann, principal.id, { name: 'ann' }],
    ['login.factor-used', ann, principal.id, { factor: 'time code' }],
    ['login', ann, principal.id],
    ['login.factor-used', ann, principal.id, { factor: 'recovery code', left: 9 }],
    ['login', ann, principal.id],
    ['user.second-factor-off', ann, principal.id],
    ['token.issued', ann, record.id, { name: 'program', roles: 'viewer' }],
    ['token.revoked', ann, record.id, { name: 'program' }],
    ['token.issued', ann, other.record.id],
    ['token.revoked', ann, other.record.id],
    ['session.ended', ann, principal.id, { session: sid }],
    ['login', ann, principal.id],
    ['user.password-changed', ann, principal.id],
    ['service.created', boss, id],
    ['service.secret-made', boss, id],
    ['token.granted', service, id, { audience: 'rollcall', method: 'secret', tokenId }],
    ['token.revoked', service, tokenId],
    ['node.tokens-issued', boss, '7', { session: sid }],
    ['keys.secret-read', boss, 'studio', { keys: /^[0-9a-f]{32} [0-9a-f]{32}$/ }],
    ['tokens.ended', boss, 'default', { before: new Date(clock.now() - 3_600_000).toISOString() }],
  ];
  const events = await listEvents(rig.pausing.store, 'default', { limit: 100 });
  const byRequest = events.filter(({ requestId }) => requestId === origin.requestId);
  test.match(
    byRequest,
    told.map(([type, by, subject, detail = {}]) => ({ type, by, subject, detail, address: origin.address })),
  );
  test.equal(byRequest.length, told.length);
  const all = JSON.stringify(events);
  const secrets = [
    token,
    refreshToken,
    accessToken,
    password,
    otherPassword,
    proposal.secret,
    ...recoveryCodes,
  ];
  for (const secret of [...secrets, bySecret.client_secret])
    test.notOk(all.includes(secret), 'no secret is told');
});

void t.test('a scope or role that no token can hold is refused before a session begins', async test => {
  const rig = await openAccessRig(test);
  const events = async () => (await rig.pausing.store.list({ prefix: 't/default/audit/' })).length;
  await rig.withPassword('ann', ['operator']);
  const told = await events();
  for (const scope of [
    '',
    ' ',
    'nodes:read  runs:read',
    'nodes:read\n',
    'nodes:read\u0007',
    'x'.repeat(5_000),
  ])
    await test.rejects(
      rig.login('ann', { scope }),
      { code: 'REQUEST_INVALID' },
      JSON.stringify(scope.slice(0, 30)),
    );
  test.same([await sessionsOf(rig), await events()], [0, told], 'neither a session nor an event');

  const { refreshToken = '' } = await rig.login('ann');
  const asked = { grant_type: 'refresh_token', refresh_token: refreshToken };
  await test.rejects(rig.grant({ ...asked, scope: 'nodes:read\u0007' }), { code: 'REQUEST_INVALID' });
  rig.clock.advance(60_000);
  test.match(
    await rig.grant({ ...asked, scope: 'nodes:read' }),
    { scope: 'nodes:read' },
    'it was not used up',
  );

  // So many roles that the token would be longer than any program takes.
  const roles = Array.from({ length: 100 }, (_, n) => `role-${n}-`.padEnd(63, 'x'));
  for (const name of roles) await rig.access.roles.define('default', { name, permissions: [] }, linkParty);
  await rig.withPassword('bob', roles);
  const before = [await sessionsOf(rig), await events()];
  await test.rejects(rig.login('bob'), { code: 'REQUEST_INVALID', message: /too long/ });
  test.same([await sessionsOf(rig), await events()], before);
});
