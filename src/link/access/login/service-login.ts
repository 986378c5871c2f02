/**
 * A service proves which one it is, in one of three ways: a secret of ours (RFC 6749 §2.3.1), an assertion signed by its
 * own key (RFC 7523), or its own certificate on the connection (RFC 8705 §2.2). Two ways at once are refused, and so is
 * everything a service was not registered with; whatever is wrong, the answer is the same.
 */
import { createPublicKey } from 'node:crypto';
import { decodeJwt, jwtVerify } from 'jose';
import type { Clock } from '../../../base/clock.js';
import type { RollcallError } from '../../../base/errors.js';
import { defaultTenant } from '../../../protocol/limits.js';
import { thumbprintOf } from '../../../tokens/thumbprint.js';
import type { Reads, Store } from '../../../store/store.js';
import { isAddressIn } from '../accounts/address-list.js';
import { accountOf, type Attempt } from './login-attempt.js';
import type { Cutoffs } from '../tokens/cutoffs.js';
import { denial, type Denied, type Revoked } from '../tokens/deny-list.js';
import { grantRefused } from './grant-errors.js';
import { decide, type Decision } from '../records.js';
import { ofAccount } from './refused-account.js';
import { isSecretOf, isServiceId, type Service, type Services } from '../accounts/services.js';

export interface ServiceCredentials {
  readonly parameters: Readonly<Record<string, string | undefined>>;
  readonly authorization?: string | undefined;
  readonly certificate?: Uint8Array | undefined;
  readonly address: string;
}

export interface Recognized {
  readonly service: Service;
  readonly by: 'secret' | 'assertion' | 'certificate';
  /** Thumbprint of the certificate that its tokens are bound to. */
  readonly confirmation?: string | undefined;
}

export interface Recognition {
  readonly store: Store;
  readonly services: Services;
  readonly denied: Denied;
  readonly cutoffs: Pick<Cutoffs, 'read'>;
  readonly attempt: Attempt;
  readonly clock: Clock;
  /** The audiences that an assertion may name: the issuer and the token endpoint. */
  readonly assertionAudiences: () => readonly string[];
}

/** Before the names of assertions that were used, which are no ids of tokens. */
export const usedAssertion = 'assertion-';
const assertionType = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
/** An assertion is made for one request. */
const maxAssertionSeconds = 300;
const assertionToleranceSeconds = 30;
const maxAssertionLength = 8_192;

/**
 * Commits what `grant` makes for the service that proved to be it. The service as it was when that was decided is an
 * expectation of the commit, and so is that its assertion was not used.
 */
export async function recognizeService<T>(
  recognition: Recognition,
  credentials: ServiceCredentials,
  grant: (recognized: Recognized, reads: Reads) => Promise<Decision<T>>,
): Promise<T> {
  const { address } = credentials;
  const { store, services, cutoffs, attempt } = recognition;
  const presented = readPresented(credentials);
  const { client, tenant, by, proof } = presented;
  const account = isServiceId(client) ? client : `service:${accountOf(tenant, client)}`;
  return attempt({ address, account }, async () => {
    return decide(store, async reads => {
      const found = await services.findClient(client, tenant, reads);
      const isOfDeleted = found && (await cutoffs.read(reads, found.tenant)).isDeleted;
      const service = isOfDeleted ? undefined : found;
      const proved = await prove(recognition, presented, service, reads);
      if (!service?.enabled || !proved || !isAddressIn(service.addresses, address))
        throw ofAccount(refused(), service && { ...service, kind: 'service' });
      const granted = await grant(
        { service, by, ...(by === 'certificate' && { confirmation: proof }) },
        reads,
      );
      const changes = proved.used ? [denial({ ...proved.used, tenant: service.tenant })] : [];
      return { changes: [...changes, ...granted.changes], result: granted.result };
    });
  });
}

interface Presented {
  /** The id of the service, or its name in the tenant. */
  readonly client: string;
  readonly tenant: string;
  readonly by: Recognized['by'];
  /** The secret, the assertion or the thumbprint. */
  readonly proof: string;
}

function readPresented({ parameters, authorization, certificate }: ServiceCredentials): Presented {
  const { client_id: client = '', client_secret: secret, client_assertion: assertion } = parameters;
  const { tenant = defaultTenant } = parameters;
  const basic = readBasic(authorization);
  if ([basic, secret, assertion].filter(each => each !== undefined).length > 1)
    throw grantRefused('invalid_request', 'one way to prove who asks is wanted, not two');
  if (basic) return { ...basic, tenant, by: 'secret' };
  if (secret !== undefined) return { client, tenant, by: 'secret', proof: secret };
  if (assertion !== undefined) {
    if (parameters['client_assertion_type'] !== assertionType || assertion.length > maxAssertionLength)
      throw refused();
    return { client: subjectOf(assertion), tenant, by: 'assertion', proof: assertion };
  }
  if (certificate && client !== '')
    return { client, tenant, by: 'certificate', proof: thumbprintOf(certificate) };
  throw refused();
}

/** RFC 6749 §2.3.1: both halves are form-encoded before they are joined. */
function readBasic(authorization: string | undefined): { client: string; proof: string } | undefined {
  if (authorization === undefined) return undefined;
  const encoded = /^Basic +([A-Za-z0-9+/=]{1,1024})$/i.exec(authorization)?.[1];
  const text = Buffer.from(encoded ?? '', 'base64').toString('latin1');
  const colon = text.indexOf(':');
  if (colon <= 0) throw refused();
  // A service id has a colon of its own: escaped, or as it is.
  const [client, proof] = isServiceId(text)
    ? [text.slice(0, text.indexOf(':', 8)), text.slice(text.indexOf(':', 8) + 1)]
    : [text.slice(0, colon), text.slice(colon + 1)];
  return { client: formDecoded(client), proof: formDecoded(proof) };
}

function formDecoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw refused();
  }
}

function subjectOf(assertion: string): string {
  try {
    const { sub, iss } = decodeJwt(assertion);
    if (sub !== undefined && sub === iss) return sub;
  } catch {
    // Not a token at all.
  }
  throw refused();
}

/** A proof that holds, and what may not be used a second time. */
interface Proof {
  readonly used?: Omit<Revoked, 'tenant'>;
}

async function prove(
  { denied, clock, assertionAudiences }: Recognition,
  { by, client, proof }: Presented,
  service: Service | undefined,
  reads: Reads,
): Promise<Proof | undefined> {
  if (by === 'secret') return isSecretOf(service, proof) ? {} : undefined;
  if (by === 'certificate') return service?.certificates.includes(proof) ? {} : undefined;
  if (!service) return undefined;
  for (const pem of service.publicKeys) {
    const verified = await jwtVerify(proof, createPublicKey(pem), {
      algorithms: ['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA'],
      audience: [...assertionAudiences()],
      issuer: client,
      subject: client,
      requiredClaims: ['exp', 'jti'],
      currentDate: new Date(clock.now()),
      clockTolerance: assertionToleranceSeconds,
    }).catch(() => undefined);
    if (!verified) continue;
    const { exp = 0, jti = '' } = verified.payload;
    const leftSeconds = exp - clock.now() / 1000;
    if (
      typeof jti !== 'string' ||
      jti === '' ||
      jti.length > 200 ||
      leftSeconds > maxAssertionSeconds + assertionToleranceSeconds
    )
      return undefined;
    // Kept until it would have expired, also over a restart.
    const used = {
      id: `${usedAssertion}${Buffer.from(`${service.id} ${jti}`).toString('hex')}`,
      endsAt: exp * 1000,
    };
    return (await denied.read(reads, used.id, used.endsAt)) ? undefined : { used };
  }
  return undefined;
}

function refused(): RollcallError {
  return grantRefused('invalid_client', 'the service is not known, or did not prove to be it', {
    hint: 'check the name or id and the secret, key or certificate it was registered with',
  });
}
