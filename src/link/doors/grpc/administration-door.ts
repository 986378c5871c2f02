/**
 * `rollcall.v1.Administration`: thin translations of src/link/administration.ts and of the audit log, as the routes
 * below /v1 are. The guard has authenticated the caller before; the tenant comes from there alone.
 */
import type { ServerWritableStream } from '@grpc/grpc-js';
import type { Clock } from '../../../base/clock.js';
import type { Log } from '../../../base/log.js';
import type {
  AdministrationServer,
  ExportAuditRequest,
  ExportedLine,
} from '../../../protocol/generated/rollcall/v1/administration.js';
import type { Administration } from '../../administration.js';
import type { AuditReading } from '../../audit/audit-reading.js';
import type { Assignment } from '../assignment.js';
import {
  readEventQuery,
  readServiceSettings,
  readUserRequest,
  toApiToken,
  toAssignment,
  toCaller,
  toCheckpoint,
  toEventPage,
  toRole,
  toService,
  toTenant,
  toTokenKey,
  toUser,
} from './administration-codec.js';
import { endCall } from './call-end.js';
import { logFault } from '../public-error.js';
import type { GrpcDoor } from './grpc-door.js';
import { ReaderPace } from './reader-pace.js';
import { createUnary, type Unary } from './unary.js';

export interface AdministrationDoorOptions {
  readonly administration: Administration;
  readonly audit: AuditReading;
  readonly assignment: () => Assignment;
  readonly door: Pick<GrpcDoor, 'principalOf' | 'hold'>;
  readonly clock: Clock;
  readonly log: Log;
}

export function createAdministrationDoor(options: AdministrationDoorOptions): AdministrationServer {
  const { administration, audit, assignment, door, log } = options;
  const what = 'an administration request';
  const unary = createUnary({ door, log, what });
  return {
    whoAmI: unary((_, by) => toCaller(administration.describe(by))),
    getAssignment: unary((_, { tenant }) => toAssignment(tenant, assignment())),
    ...userCalls(administration, unary),
    ...serviceCalls(administration, unary),
    ...tokenCalls(administration, unary),
    ...tenantCalls(administration, unary),
    listAuditEvents: unary(async (request, { tenant }) =>
      toEventPage(await audit.listEvents(tenant, readEventQuery(request))),
    ),
    writeAuditCheckpoint: unary(async (_, { tenant }) => toCheckpoint(await audit.checkpoint(tenant))),
    exportAudit: call =>
      void exportAudit(options, call).catch((error: unknown) => {
        logFault(log, error, what);
        endCall(call, error);
      }),
  };
}

type Calls<Name extends keyof AdministrationServer> = Pick<AdministrationServer, Name>;

type UserCall =
  'listUsers' | 'createUser' | 'changeUser' | 'deleteUser' | 'listRoles' | 'defineRole' | 'removeRole';

function userCalls(administration: Administration, unary: Unary): Calls<UserCall> {
  return {
    listUsers: unary(async (_, by) => ({ users: (await administration.listUsers(by)).map(toUser) })),
    createUser: unary(async (request, by) => toUser(await administration.createUser(by, request))),
    changeUser: unary(async (request, by) =>
      toUser(await administration.changeUser(by, request.user, readUserRequest(request))),
    ),
    deleteUser: unary(async ({ user }, by) => {
      await administration.deleteUser(by, user);
      return {};
    }),

    listRoles: unary(async (_, by) => ({
      roles: (await administration.listRoles(by)).map(toRole),
      permissions: administration.permissions(),
    })),
    defineRole: unary(async (request, by) => toRole(await administration.defineRole(by, request))),
    removeRole: unary(async ({ name }, by) => {
      await administration.removeRole(by, name);
      return {};
    }),
  };
}

type ServiceCall = 'listServices' | 'createService' | 'changeService' | 'deleteService' | 'makeServiceSecret';

function serviceCalls(administration: Administration, unary: Unary): Calls<ServiceCall> {
  return {
    listServices: unary(async (_, by) => ({
      services: (await administration.listServices(by)).map(toService),
    })),
    createService: unary(async ({ name, settings }, by) =>
      toService(await administration.createService(by, name, readServiceSettings(settings))),
    ),
    changeService: unary(async ({ service, settings, endTokens }, by) => {
      const wanted = { ...readServiceSettings(settings), endTokens };
      return toService(await administration.changeService(by, service, wanted));
    }),
    deleteService: unary(async ({ service }, by) => {
      await administration.deleteService(by, service);
      return {};
    }),
    makeServiceSecret: unary(async (request, by) => {
      const { service, secret } = await administration.makeServiceSecret(by, request.service);
      return { service: toService(service), secret };
    }),
  };
}

type TokenCall =
  'listTokens' | 'issueToken' | 'revokeToken' | 'endTokens' | 'listKeys' | 'rotateKeys' | 'getAudienceSecret';

function tokenCalls(administration: Administration, unary: Unary): Calls<TokenCall> {
  return {
    listTokens: unary(async (_, by) => ({ tokens: (await administration.listTokens(by)).map(toApiToken) })),
    issueToken: unary(async ({ name, roles, lifetimeMs, user }, by) => {
      const wanted = { name, roles, lifetimeMs: Number(lifetimeMs), user: user || undefined };
      const { record, token } = await administration.issueToken(by, wanted);
      return { record: toApiToken(record), token };
    }),
    revokeToken: unary(async ({ id }, by) => {
      await administration.revokeToken(by, id);
      return {};
    }),
    endTokens: unary(async ({ beforeMs, sinceMs }, by) => {
      const wanted = { since: Number(sinceMs), ...(beforeMs !== 0n && { before: Number(beforeMs) }) };
      const { since, before, ownEnded } = await administration.endTokens(by, wanted);
      return { sinceMs: BigInt(since), beforeMs: BigInt(before), ownEnded };
    }),

    listKeys: unary(() => ({ keys: administration.listKeys().map(toTokenKey) })),
    rotateKeys: unary(async (request, by) => {
      const { made, signing, retired, dropped } = await administration.rotateKeys(by, request);
      return {
        made: made.map(toTokenKey),
        signing: signing.map(toTokenKey),
        retired: retired.map(toTokenKey),
        dropped: dropped.map(toTokenKey),
      };
    }),
    getAudienceSecret: unary(async ({ audience }, by) => ({
      secrets: [...(await administration.secretOf(by, audience))],
    })),
  };
}

type TenantCall = 'listTenants' | 'createTenant' | 'deleteTenant';

function tenantCalls(administration: Administration, unary: Unary): Calls<TenantCall> {
  return {
    listTenants: unary(async () => ({ tenants: (await administration.listTenants()).map(toTenant) })),
    createTenant: unary(async (request, by) => toTenant(await administration.createTenant(by, request))),
    deleteTenant: unary(({ tenant }, by) => administration.deleteTenant(by, tenant)),
  };
}

async function exportAudit(
  { audit, door, clock }: AdministrationDoorOptions,
  call: ServerWritableStream<ExportAuditRequest, ExportedLine>,
): Promise<void> {
  const reader = new ReaderPace(call, clock);
  door.hold(
    call,
    () => undefined,
    refusal => endCall(call, refusal),
  );
  for await (const line of audit.exportLines(door.principalOf(call).tenant)) {
    if (reader.isOver()) return;
    reader.write({ line }, line.length);
    await reader.room();
  }
  if (!reader.isOver()) call.end();
}
