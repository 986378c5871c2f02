/** The messages of `rollcall.v1.Administration` ⇄ what the client gives and takes. */
import { RollcallError } from '../base/errors.js';
import type * as wire from '../protocol/generated/rollcall/v1/administration.js';
import type {
  ApiToken,
  AudienceSecret,
  EndedTime,
  KeyRotation,
  RoleMatrix,
  Service,
  ServiceSettings,
  Tenant,
  TokenKey,
  User,
  UserChange,
} from './answers.js';

export function readUser({ createdAtMs, ...user }: wire.User): User {
  return { ...user, createdAt: Number(createdAtMs) };
}

export function toUserChange(user: string, change: UserChange): wire.ChangeUserRequest {
  const { roles, enabled, endSessions = false, password, removeSecondFactor = false } = change;
  return { user, roles: toTexts(roles), enabled, endSessions, password, removeSecondFactor };
}

export function readRoles({ roles, permissions }: wire.ListRolesResponse): RoleMatrix {
  return { roles, permissions };
}

export function readService(service: wire.Service | undefined): Service {
  const { tokenLifetimeMs, createdAtMs, validAfterMs, ...others } = present(service);
  return {
    ...others,
    tokenLifetimeMs: Number(tokenLifetimeMs),
    createdAt: Number(createdAtMs),
    validAfter: Number(validAfterMs),
  };
}

export function toServiceSettings(settings: ServiceSettings): wire.ServiceSettings {
  const { enabled, roles, audiences, scopes, addresses, tokenLifetimeMs, publicKeys, certificates } =
    settings;
  return {
    enabled,
    roles: toTexts(roles),
    audiences: toTexts(audiences),
    scopes: toTexts(scopes),
    addresses: toTexts(addresses),
    tokenLifetimeMs:
      tokenLifetimeMs === undefined ? undefined : toInteger(tokenLifetimeMs, 'tokenLifetimeMs'),
    publicKeys: toTexts(publicKeys),
    certificates: toTexts(certificates),
  };
}

export function readApiToken(token: wire.ApiToken | undefined): ApiToken {
  const { createdAtMs, expiresAtMs, madeBy, madeByName, ...others } = present(token);
  return {
    ...others,
    ...(madeBy !== '' && { madeBy, madeByName }),
    createdAt: Number(createdAtMs),
    expiresAt: Number(expiresAtMs),
  };
}

export function readEndedTime({ beforeMs, sinceMs, ownEnded }: wire.EndTokensResponse): EndedTime {
  return { since: Number(sinceMs), before: Number(beforeMs), ownEnded };
}

export function readTenant({ name, createdAtMs }: wire.Tenant): Tenant {
  return { name, createdAt: Number(createdAtMs) };
}

export function readTokenKey(key: wire.TokenKey): TokenKey {
  const { kid, algorithm, audience, createdAtMs, retiredAtMs, signsAtMs } = key;
  return {
    ...{ kid, algorithm, use: readUse(key.use) },
    audience: audience === '' ? null : audience,
    createdAt: Number(createdAtMs),
    signsAt: signsAtMs === 0n ? null : Number(signsAtMs),
    retiredAt: retiredAtMs === 0n ? null : Number(retiredAtMs),
  };
}

export function readRotation({ made, signing, retired, dropped }: wire.RotateKeysResponse): KeyRotation {
  return {
    made: made.map(readTokenKey),
    signing: signing.map(readTokenKey),
    retired: retired.map(readTokenKey),
    dropped: dropped.map(readTokenKey),
  };
}

export function readSecret({ kid, secret, use }: wire.AudienceSecret): AudienceSecret {
  return { kid, secret, use: readUse(use) };
}

/** Whole milliseconds for the wire; REQUEST_INVALID for another number. */
export function toInteger(value: number, name: string): bigint {
  if (Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw new RollcallError('REQUEST_INVALID', `${name} must be a whole number of milliseconds`);
}

function toTexts(texts: readonly string[] | undefined): wire.Texts | undefined {
  return texts && { texts: [...texts] };
}

function readUse(use: string): TokenKey['use'] {
  if (use === 'next' || use === 'signs' || use === 'verifies') return use;
  throw new RollcallError('PROTOCOL_INVALID', `unexpected use of a key: ${use}`);
}

function present<T>(message: T | undefined): T {
  if (message) return message;
  throw new RollcallError('PROTOCOL_INVALID', 'the answer of the link lacks its record');
}
