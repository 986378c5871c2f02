/** The results of administration and the audit log ⇄ the messages of `rollcall.v1.Administration`. */
import type { AuditEntry, AuditValue } from '../../../audit-log/entry.js';
import type { Checkpoint } from '../../../audit-log/checkpoint.js';
import type * as wire from '../../../protocol/generated/rollcall/v1/administration.js';
import type { ApiToken } from '../../access/tokens/api-tokens.js';
import type { Role } from '../../access/accounts/roles.js';
import type { ServiceSettings } from '../../access/accounts/services.js';
import type { Tenant } from '../../access/accounts/tenants.js';
import type { TokenKeyInfo } from '../../access/tokens/keys.js';
import type { Administration, ServiceView, UserRequest, UserView } from '../../administration.js';
import type { EventPage, EventPageQuery } from '../../audit/query.js';
import type { Assignment } from '../assignment.js';

type CallerView = ReturnType<Administration['describe']>;

export function toCaller({ roles, expiresAt, ...caller }: CallerView): wire.Caller {
  return { ...caller, roles: [...roles], expiresAtMs: BigInt(expiresAt) };
}

export function toAssignment(tenant: string, assignment: Assignment): wire.Assignment {
  const { trustDomain, links, serverRoots } = assignment;
  return { tenant, trustDomain, linkAddresses: links.map(({ address }) => address), serverRoots };
}

export function toUser({ roles, createdAt, ...user }: UserView): wire.User {
  return { ...user, roles: [...roles], createdAtMs: BigInt(createdAt) };
}

/** A bool cannot be left out on the wire, so only true asks for something. */
export function readUserRequest(request: wire.ChangeUserRequest): UserRequest {
  const { roles, enabled, endSessions, password, removeSecondFactor } = request;
  return {
    roles: roles?.texts,
    enabled,
    endSessions: endSessions || undefined,
    password,
    removeSecondFactor: removeSecondFactor || undefined,
  };
}

export function toRole({ name, permissions, builtIn }: Role): wire.Role {
  return { name, permissions: [...permissions], builtIn };
}

export function toService(service: ServiceView): wire.Service {
  const { id, name, enabled, roles, audiences, scopes, addresses, publicKeys, certificates } = service;
  return {
    id,
    name,
    enabled,
    roles: [...roles],
    audiences: [...audiences],
    scopes: [...scopes],
    addresses: [...addresses],
    tokenLifetimeMs: BigInt(service.tokenLifetimeMs),
    publicKeys: [...publicKeys],
    certificates: [...certificates],
    secrets: service.secrets,
    createdAtMs: BigInt(service.createdAt),
    validAfterMs: BigInt(service.validAfter),
  };
}

/** No settings are settings that say nothing. */
export function readServiceSettings(settings: wire.ServiceSettings = {}): ServiceSettings {
  return {
    enabled: settings.enabled,
    roles: settings.roles?.texts,
    audiences: settings.audiences?.texts,
    scopes: settings.scopes?.texts,
    addresses: settings.addresses?.texts,
    tokenLifetimeMs: numberOf(settings.tokenLifetimeMs),
    publicKeys: settings.publicKeys?.texts,
    certificates: settings.certificates?.texts,
  };
}

export function toApiToken({ roles, createdAt, expiresAt, ...token }: ApiToken): wire.ApiToken {
  const { madeBy = '', madeByName = '' } = token;
  return {
    ...token,
    madeBy,
    madeByName,
    roles: [...roles],
    createdAtMs: BigInt(createdAt),
    expiresAtMs: BigInt(expiresAt),
  };
}

export function toTenant({ name, createdAt }: Tenant): wire.Tenant {
  return { name, createdAtMs: BigInt(createdAt) };
}

export function toTokenKey(key: TokenKeyInfo): wire.TokenKey {
  const { kid, algorithm, audience, use, createdAt, signsAt, retiredAt } = key;
  return {
    kid,
    algorithm,
    audience: audience ?? '',
    use,
    createdAtMs: BigInt(createdAt),
    signsAtMs: BigInt(signsAt ?? 0),
    retiredAtMs: BigInt(retiredAt ?? 0),
  };
}

export function readEventQuery(request: wire.ListAuditEventsRequest): EventPageQuery {
  const { limit, from, sinceMs, untilMs, newestFirst, typePrefix, subject, by } = request;
  return {
    limit: limit || 100,
    from: numberOf(from),
    since: numberOf(sinceMs),
    until: numberOf(untilMs),
    newestFirst,
    typePrefix,
    subject: subject || undefined,
    by: by || undefined,
  };
}

export function toEventPage({ entries, damaged, next }: EventPage): wire.ListAuditEventsResponse {
  return {
    entries: entries.map(toAuditEntry),
    damaged: damaged.map(BigInt),
    next: next === undefined ? undefined : BigInt(next),
  };
}

function toAuditEntry({ seq, at, by, detail, ...entry }: AuditEntry): wire.AuditEntry {
  const values = Object.entries(detail).map(([name, value]) => [name, toAuditValue(value)] as const);
  const who = typeof by === 'string' ? { by } : { by: '', party: by };
  return { ...entry, ...who, seq: BigInt(seq), atMs: BigInt(at), detail: Object.fromEntries(values) };
}

function toAuditValue(value: AuditValue): wire.AuditValue {
  if (typeof value === 'string') return { value: { $case: 'text', value } };
  if (typeof value === 'number') return { value: { $case: 'number', value } };
  return { value: { $case: 'flag', value } };
}

export function toCheckpoint({ seq, at, ...checkpoint }: Checkpoint): wire.Checkpoint {
  return { ...checkpoint, seq: BigInt(seq), atMs: BigInt(at) };
}

/** Beyond 2⁵³ it is not exact, and far beyond whatever is taken. */
function numberOf(value: bigint | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}
