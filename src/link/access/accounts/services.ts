/**
 * Services: programs that ask for tokens in their own name. Each is registered with how it proves itself (a secret of
 * ours, a public key of its own, or a certificate of its own), what it may ask for, and from where.
 */
import { timingSafeEqual } from 'node:crypto';
import type { AuditDetail } from '../../../audit-log/entry.js';
import type { Clock } from '../../../base/clock.js';
import type { Random } from '../../../base/random.js';
import type { Actor, Audit } from '../../audit/audit.js';
import type { AuditEventType } from '../../audit/event-types.js';
import { tenantPrefix } from '../../../store/keys.js';
import type { Key, Reads, Store } from '../../../store/store.js';
import { denial } from '../tokens/deny-list.js';
import { isAccessName, nameTaken, notFound, parseNewName, requireFew } from './names.js';
import { decide, listRecords, putRecord, readRecord, type Grounds } from '../records.js';
import type { Roles } from './roles.js';
import { hashSecret } from '../tokens/secret-text.js';
import {
  checkServiceSettings,
  pickServiceSettings,
  defaultLifetimeMs,
  type ServiceSetting,
  type ServiceSettings,
} from './service-settings.js';
import { maxServiceTokenMs } from '../tokens/lifetimes.js';

export type { ServiceSettings } from './service-settings.js';

export interface ServiceSecret {
  /** SHA-256, hex: 256 random bits need no slow hash. */
  readonly hash: string;
  readonly createdAt: number;
}

export interface Service extends ServiceSetting {
  /** `service:` and 32 hex digits; the `client_id` of OAuth. */
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  /** At most two, so that a new one can be rolled out before the old one goes. */
  readonly secrets: readonly ServiceSecret[];
  readonly createdAt: number;
  readonly validAfter: number;
}

const secretsKept = 2;
const secretMark = 'rcs_';

const keyOf = (tenant: string, id: string): Key => `${tenantPrefix(tenant)}service/${id}`;
const nameKeyOf = (tenant: string, name: string): Key =>
  `${tenantPrefix(tenant)}service-name/${name.toLowerCase()}`;
const homeKeyOf = (id: string): Key => `access/service/${id.replaceAll(/[^a-z0-9:]/g, '_')}`;

export interface ServicesOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  readonly roles: Pick<Roles, 'requireAll'>;
}

export class Services {
  readonly #options: ServicesOptions;

  constructor(options: ServicesOptions) {
    this.#options = options;
  }

  create(
    tenant: string,
    name: string,
    wanted: ServiceSettings,
    by: Actor,
    grounds?: Grounds,
  ): Promise<Service> {
    return decide(this.#options.store, async reads => {
      await grounds?.(reads);
      parseNewName(name, 'service name');
      const settings = pickServiceSettings(wanted);
      checkServiceSettings(settings);
      await this.#options.roles.requireAll(tenant, settings.roles ?? [], reads);
      const index = nameKeyOf(tenant, name);
      if (await readRecord(reads, index)) throw nameTaken('service', name);
      const id = `service:${this.#options.random(16).toString('hex')}`;
      const service: Service = {
        ...emptyService,
        createdAt: this.#options.clock.now(),
        ...settings,
        id,
        tenant,
        name,
      };
      const detail = { name, roles: service.roles.join(' '), audiences: service.audiences.join(' ') };
      return {
        changes: [
          putRecord(index, { id }),
          putRecord(homeKeyOf(id), { tenant }),
          putRecord(keyOf(tenant, id), service),
          this.#options.audit.auditChange(tenant, { type: 'service.created', subject: id, by, detail }),
        ],
        result: service,
      };
    });
  }

  /** Gives a new secret, told this once; an older one but the last is dropped. */
  async addSecret(
    tenant: string,
    id: string,
    by: Actor,
    grounds?: Grounds,
  ): Promise<{ service: Service; secret: string }> {
    const secret = secretMark + this.#options.random(32).toString('base64url');
    const fresh = { hash: hashSecret(secret), createdAt: this.#options.clock.now() };
    const event = { type: 'service.secret-made', by, grounds } as const;
    const service = await this.#update(tenant, id, event, before => ({
      ...before,
      secrets: [fresh, ...before.secrets].slice(0, secretsKept),
    }));
    return { service, secret };
  }

  async change(
    tenant: string,
    id: string,
    { endTokens, ...wanted }: ServiceSettings & { readonly endTokens?: boolean },
    by: Actor,
    grounds?: Grounds,
  ): Promise<Service> {
    const settings = pickServiceSettings(wanted);
    checkServiceSettings(settings);
    requireFew(settings.roles ?? [], 'roles');
    const changedNames = [...Object.keys(settings), ...(endTokens ? ['tokens ended'] : [])];
    const detail = { changed: changedNames.join(' ') };
    return this.#update(
      tenant,
      id,
      { type: 'service.changed', by, detail, grounds },
      async (before, reads) => {
        // A role that it has already and that is gone keeps nobody from changing it.
        const added = settings.roles?.filter(each => !before.roles.includes(each)) ?? [];
        await this.#options.roles.requireAll(tenant, added, reads);
        const validAfter = endTokens
          ? Math.max(this.#options.clock.now(), before.validAfter) + 1
          : before.validAfter;
        return { ...before, ...settings, validAfter };
      },
    );
  }

  /** Its tokens end with it; its name is free for another, with another id. */
  async remove(tenant: string, id: string, by: Actor, grounds?: Grounds): Promise<void> {
    await decide(this.#options.store, async reads => {
      await grounds?.(reads);
      const service = await this.find(tenant, id, reads);
      if (!service) throw notFound('service');
      const { name } = service;
      return {
        changes: [
          { type: 'delete', key: keyOf(tenant, id) },
          { type: 'delete', key: nameKeyOf(tenant, name) },
          { type: 'delete', key: homeKeyOf(id) },
          // Here no token of nobody counts; those who verify elsewhere read it from the list.
          denial({ id, endsAt: this.#options.clock.now() + maxServiceTokenMs, tenant }),
          this.#options.audit.auditChange(tenant, {
            type: 'service.deleted',
            subject: id,
            by,
            detail: { name },
          }),
        ],
        result: undefined,
      };
    });
  }

  find(tenant: string, id: string, reads: Reads = this.#options.store): Promise<Service | undefined> {
    return readRecord<Service>(reads, keyOf(tenant, id));
  }

  /** By its id alone, whatever its tenant, or by its name in this one: the way a service comes in. */
  async findClient(
    reference: string,
    tenant: string,
    reads: Reads = this.#options.store,
  ): Promise<Service | undefined> {
    if (!isServiceId(reference)) return this.#findByName(tenant, reference, reads);
    const home = await readRecord<{ tenant: string }>(reads, homeKeyOf(reference));
    return home && this.find(home.tenant, reference, reads);
  }

  /** By name or id; NOT_FOUND. */
  async get(tenant: string, reference: string, reads: Reads = this.#options.store): Promise<Service> {
    const service = await (isServiceId(reference)
      ? this.find(tenant, reference, reads)
      : this.#findByName(tenant, reference, reads));
    if (!service) throw notFound('service');
    return service;
  }

  list(tenant: string): Promise<Service[]> {
    return listRecords<Service>(this.#options.store, `${tenantPrefix(tenant)}service/`);
  }

  async #findByName(tenant: string, name: string, reads: Reads): Promise<Service | undefined> {
    if (!isAccessName(name)) return undefined;
    const index = await readRecord<{ id: string }>(reads, nameKeyOf(tenant, name));
    return index && this.find(tenant, index.id, reads);
  }

  #update(
    tenant: string,
    id: string,
    {
      grounds,
      ...event
    }: { type: AuditEventType; by: Actor; detail?: AuditDetail; grounds?: Grounds | undefined },
    change: (service: Service, reads: Reads) => Service | Promise<Service>,
  ): Promise<Service> {
    return decide(this.#options.store, async reads => {
      await grounds?.(reads);
      const before = await this.find(tenant, id, reads);
      if (!before) throw notFound('service');
      const after = await change(before, reads);
      const detail = { name: before.name, ...event.detail };
      return {
        changes: [
          putRecord(keyOf(tenant, id), after),
          this.#options.audit.auditChange(tenant, { ...event, subject: id, detail }),
        ],
        result: after,
      };
    });
  }
}

const emptyService = {
  enabled: true,
  roles: [],
  audiences: [],
  scopes: [],
  addresses: [],
  tokenLifetimeMs: defaultLifetimeMs,
  secrets: [],
  publicKeys: [],
  certificates: [],
  validAfter: 0,
} as const;

/** No name has a colon. */
export function isServiceId(reference: string): boolean {
  return reference.startsWith('service:');
}

/** True for one of the secrets of the service. Takes as long for a service that is not there. */
export function isSecretOf(service: Service | undefined, secret: string): boolean {
  const found = Buffer.from(hashSecret(secret), 'hex');
  const wanted = [...(service?.secrets ?? []).map(({ hash }) => Buffer.from(hash, 'hex')), Buffer.alloc(32)];
  return wanted.map(each => timingSafeEqual(found, each)).includes(true);
}
