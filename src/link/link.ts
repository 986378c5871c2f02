/**
 * The composition root: every room of the link, opened in order and closed in reverse (parts/ has each one's opening).
 * The outside world (store, clock, randomness, log) comes in as arguments; nothing here reads the environment.
 */
import { join } from 'node:path';
import type { Environment } from '../app-host/hosting/spawn-runner.js';
import type { Clock } from '../base/clock.js';
import { createLifecycle } from '../base/lifecycle.js';
import type { Log } from '../base/log.js';
import type { Random } from '../base/random.js';
import type { Address } from '../base/settings.js';
import type { Store } from '../store/store.js';
import type { Access } from './access/access.js';
import type { UsableLinkConfig } from './config.js';
import { openAuditTrail } from './parts/audit-trail.js';
import { openFoundation } from './parts/foundation.js';
import type { LinkContext } from './parts/link-context.js';
import { createNodeSide } from './parts/node-side.js';
import { openLinkAccess } from './parts/open-link-access.js';
import { openLinkHosts, openLinkRuns } from './parts/open-link-runs.js';
import { openRegistry } from './parts/open-registry.js';
import { OwnAddresses } from './parts/own-addresses.js';
import { openPorts, watchCertificates, type Ports } from './parts/ports.js';
import type { Registry } from './registry/registry.js';
import type { Sessions } from './sessions/sessions.js';
import { TenantSweep } from './tenant-sweep.js';

export interface LinkOptions {
  readonly config: UsableLinkConfig;
  /** Closed with the link. */
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  /** PATH, LANG and TZ of it go to server halves that are children of the link. */
  readonly environment?: Environment | undefined;
  readonly log: Log;
  /** Of the server key, when it is encrypted and the settings name no file with its passphrase. Secret. */
  readonly keyPassphrase?: string | undefined;
}

export interface LinkAddresses {
  readonly node: Address;
  readonly control: Address;
}

/** The link once it is open. */
interface Running {
  readonly ports: Ports;
  readonly access: Access;
  readonly trustDomain: string;
  readonly sessions: Sessions;
  readonly reload: () => Promise<void>;
}

export class Link {
  readonly #options: LinkOptions;
  readonly #context: LinkContext;
  readonly #lifecycle = createLifecycle();
  #running: Running | undefined;

  constructor(options: LinkOptions) {
    const { config, clock, random, log } = options;
    this.#options = options;
    this.#context = { config, clock, random, log, lifecycle: this.#lifecycle };
  }

  /** The addresses of the ports, once started. */
  get addresses(): LinkAddresses {
    const { node, control } = this.#started().ports;
    return { node: node.address, control: control.address };
  }

  get access(): Access {
    return this.#started().access;
  }

  get trustDomain(): string {
    return this.#started().trustDomain;
  }

  /** Resolves when both ports take connections. A failed start undoes what it opened. */
  async start(): Promise<void> {
    try {
      this.#running = await this.#open();
    } catch (error) {
      await this.#lifecycle
        .close()
        .catch((later: unknown) => this.#options.log.error({ err: later }, 'closing after a failed start'));
      throw error;
    }
  }

  /** Reads the certificate files again, as happens by itself once they have changed; live sessions stay. A bad file keeps the old ones and throws. */
  reload(): Promise<void> {
    return this.#started().reload();
  }

  /** Takes no new connections, tells every node, ends every session. */
  async drain(): Promise<void> {
    const { ports, sessions } = this.#started();
    ports.node.stopAccepting();
    ports.control.stopAccepting();
    await sessions.drain();
  }

  /** Everything, in reverse; twice is one promise. */
  close(): Promise<void> {
    return this.#lifecycle.close();
  }

  #started(): Running {
    if (!this.#running) throw new Error('the link has not been started');
    return this.#running;
  }

  async #open(): Promise<Running> {
    const context = this.#context;
    const { store: givenStore, keyPassphrase, environment } = this.#options;
    const foundation = await openFoundation(context, givenStore, keyPassphrase);
    const { registry, alive } = await openRegistry(context, foundation);
    const auditTrail = await openAuditTrail(context, foundation);
    const nodeSide = createNodeSide(context, foundation, auditTrail, registry);
    const addresses = new OwnAddresses(context.config);
    const access = await openLinkAccess(context, foundation, auditTrail, registry, addresses);
    const { tenants } = access;
    const hosts = await openLinkHosts(context, environment);
    const runs = await openLinkRuns(context, foundation, auditTrail, { registry, tenants, hosts });
    nodeSide.useRuns(runs);
    await runs.recover();
    const { sessions, enrollments } = nodeSide;
    const { clock, log } = context;
    const sweep = new TenantSweep({ tenants, registry, sessions, enrollments, runs, clock, log });
    this.#lifecycle.onClose(() => sweep.close());
    void sweep.resume();
    hosts.open();
    const { certificates, metrics, trustDomain } = foundation;
    metrics.observe({
      certificateExpiresAt: () => certificates.identity.expiresAt,
      sessions: () => sessions.count(),
      runs: () => runs.count(),
      nodes: async () => ({ ...(await registry.countAllNodes()) }),
    });
    const rooms = { foundation, alive, auditTrail, nodeSide, access, runs, sweep, addresses };
    const ports = await openPorts(context, rooms);
    watchCertificates(context, rooms, ports);
    await auditTrail.linkEvents.started();
    tellOfSetup(access, log);
    auditTrail.startCheck();
    const running = { ports, access, trustDomain, sessions, reload: () => certificates.reload() };
    this.#announce(running, registry);
    return running;
  }

  /** Both ports are open already: counting a million nodes takes seconds, and the start does not wait for it. */
  #announce({ ports, access, trustDomain }: Running, registry: Registry): void {
    const { log } = this.#options;
    const fields = { nodeAddress: ports.node.address, controlAddress: ports.control.address, trustDomain };
    registry.countAllNodes().then(
      ({ revoked, ...registered }) => {
        const nodes = Object.values(registered).reduce((sum, count) => sum + count, 0);
        log.info({ ...fields, nodes, revoked, issuer: access.issuer() }, 'link started');
      },
      (error: unknown) => log.error({ err: error, ...fields }, 'link started, but cannot count'),
    );
  }
}

function tellOfSetup({ setup }: Access, log: Log): void {
  if (setup.path === undefined) return;
  const fields = { setupCodeFile: setup.path, hint: 'rollcall login --setup' };
  log.info(fields, 'there is no admin yet: the setup code makes the first one');
}

/** The folder of a link's store. */
export function storeFolder(dataDir: string): string {
  return join(dataDir, 'store');
}
