/**
 * The composition root: every room of the link, opened in order and closed in reverse. What the outside world is
 * (store, clock, randomness, log) comes in as arguments; nothing here reads the environment.
 */
import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import { DiskFloor } from '../base/disk-floor.js';
import { toRollcallError } from '../base/errors.js';
import { defaultRunnerPrograms } from '../app-host/hosting/runner-programs.js';
import type { Environment } from '../app-host/hosting/spawn-runner.js';
import { createLifecycle } from '../base/lifecycle.js';
import type { Log } from '../base/log.js';
import type { Random } from '../base/random.js';
import { makeSecretFolder } from '../base/secret-file.js';
import { toPem } from '../base/pem.js';
import { allAddresses, formatAddress, type Address } from '../base/settings.js';
import type { TrustBundle } from '../protocol/generated/rollcall/v1/enrollment.js';
import { openAccess, type Access } from './access/access.js';
import { createAlerts } from './access/alerts.js';
import type { FindNodeName } from './access/accounts/holders.js';
import type { Tenants } from './access/accounts/tenants.js';
import { createAdministration } from './administration.js';
import { startAlive } from './alive.js';
import { createAudit } from './audit/audit.js';
import { createAuditReading } from './audit/audit-reading.js';
import { openCheckpoints } from './audit/checkpoints.js';
import { checkLogs } from './audit/log-check.js';
import { Refusals } from './audit/refusals.js';
import { Retention } from './audit/retention.js';
import { openAuthority } from './authority/authority.js';
import { serverSettings, type UsableLinkConfig } from './config.js';
import { createControl } from './control.js';
import { LinkEvents } from './audit/link-events.js';
import { openControlPort } from './doors/control-port.js';
import { openNodePort } from './doors/node-port.js';
import { ServerCertificates } from './doors/tls/server-certificates.js';
import type { ServerIdentity } from './doors/tls/server-identity.js';
import { Enrollments } from './enrollment/enrollments.js';
import { createMetrics } from './metrics.js';
import { Registry } from './registry/registry.js';
import { createRunControl } from './run-control.js';
import { openHosts } from './runs/server/hosts.js';
import { createRuns, type OpenRuns } from './runs/runs.js';
import { Sessions } from './sessions/sessions.js';
import { createObjectStore } from '../objects/object-store.js';
import { measureCommits } from '../store/measured.js';
import { prepareStore } from '../store/schema.js';
import type { Store } from '../store/store.js';
import { TenantSweep } from './tenant-sweep.js';
import { settleTrustDomain } from './trust-domain.js';

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

export interface Link {
  /** Resolves when both ports take connections. A failed start undoes what it opened. */
  start(): Promise<void>;
  /** Reads the certificate files again, as happens by itself once they have changed; live sessions stay. A bad file keeps the old ones and throws. */
  reload(): Promise<void>;
  /** Takes no new connections, tells every node, ends every session. */
  drain(): Promise<void>;
  /** Everything, in reverse; twice is one promise. */
  close(): Promise<void>;
  /** Where the ports really are, once started. */
  readonly addresses: LinkAddresses;
  readonly access: Access;
  readonly trustDomain: string;
}

export function createLink(options: LinkOptions): Link {
  const { config, store: givenStore, clock, random, log } = options;
  const lifecycle = createLifecycle();
  let running: Awaited<ReturnType<typeof open>> | undefined;

  async function open() {
    const folder = config['data-dir'];
    const metrics = createMetrics();
    const store = await lifecycle.open(
      () => measureCommits(givenStore, clock, seconds => metrics.commit(seconds)),
      opened => opened.close(),
    );
    await prepareStore(store);
    await makeSecretFolder(folder);
    const trustDomain = await settleTrustDomain(store, config['trust-domain'], random, log);
    const authority = await openAuthority({
      folder,
      certificateFile: config['authority-certfile'],
      keyFile: config['authority-keyfile'],
      trustDomain,
      clock,
      random,
      certificateLifetimeMs: config['certificate-lifetime'],
      warn,
    });
    const certificates = await ServerCertificates.open({
      ...serverSettings(config, options.keyPassphrase),
      clock,
      log,
    });

    const audit = createAudit({ clock });
    const registry = new Registry({ store, audit, clock, random, log });
    lifecycle.onClose(() => registry.close());
    registry.watchNodes(undefined, ({ status, reason }) => metrics.presence(status, reason));
    const alive = await startAlive(store, clock, log);
    lifecycle.onClose(() => alive.stop());
    await registry.recover(alive.lastAt ?? clock.now());
    const alerts = createAlerts({ log, clock, count: event => metrics.alert(event) });
    const tellFault = (tenant: string, fault: string): void =>
      alerts.raise('security.audit-log-changed', { tenant, fault });
    // Before the refusals, so that it closes after them and vouches for what they write last.
    const checkpoints = await lifecycle.open(
      () => openCheckpoints({ folder, store, audit, clock, random, log, trustDomain }),
      opened => opened.close(),
    );
    // After the checkpoints and before everything that tells of something: the stop is the last event, vouched for.
    const linkEvents = await lifecycle.open(
      () => new LinkEvents({ store, audit, clock, log, trustDomain }),
      opened => opened.close(),
    );
    const retention = await lifecycle.open(
      () =>
        new Retention({
          ...{ store, audit, checkpoints, clock, log, onFault: tellFault },
          retentionMs: config['audit-retention'],
        }),
      opened => opened.close(),
    );
    const refusals = await lifecycle.open(
      () =>
        new Refusals({
          ...{ clock, store, audit, log },
          onCount: (event, reason) => metrics.refusal(event, reason),
          onPrincipal: ({ tenant, id, name }, address, reason) =>
            alerts.raise('security.request-refused', { tenant, account: id, name, address, reason }),
        }),
      counter => counter.close(),
    );

    const nodeContext = (identity: ServerIdentity) => ({
      ...contextOf(identity),
      ca: authority.certificates.map(each => each.toString()),
    });
    const trustBundle = (): TrustBundle => ({ serverRoots: [...certificates.identity.roots] });
    const shared = { registry, trustDomain, clock, random, log, metrics };
    // They need the sessions, and the sessions tell them.
    const later: { runs?: OpenRuns } = {};
    const sessions = new Sessions({
      ...shared,
      listener: {
        onOnline: (session, ready) => later.runs?.attach(session, ready),
        onOffline: session => later.runs?.detach(session),
        onFrame: (session, frame) => later.runs?.receive(session, frame),
      },
      authorities: authority.certificates,
      tenantOf: id => registry.tenantOf(id),
      certificateLifetimeMs: config['certificate-lifetime'],
    });
    const enrollments = new Enrollments({
      ...shared,
      alerts,
      authority,
      refusals,
      bindingTypes: config.bindings,
      trustBundle,
      linkAddresses: config['link-addresses'],
      certificateLifetimeMs: config['certificate-lifetime'],
      maxInFlight: config['max-enrollments'],
    });
    const issuerKeys = authority.certificates.map(each =>
      each.publicKey.export({ type: 'spki', format: 'der' }),
    );
    const ownKeys = (): readonly Buffer[] => [...issuerKeys, ...certificates.identity.publicKeys];
    const control = createControl({ registry, sessions, enrollments, clock, ownKeys });
    // Known once the control port is open, which needs access first.
    let controlAddress = config['control-address'];
    let nodeAddress = config['node-address'];
    const access = await lifecycle.open(
      () =>
        openAccess({
          folder,
          store,
          audit,
          refusals,
          clock,
          random,
          log,
          algorithms: config['token-algorithms'],
          audience: linkAudience,
          issuer: () => config.issuer ?? `https://${formatAddress(reachable(controlAddress))}`,
          alerts,
          findNodeName: (tenant, id, reads) => findNodeName(registry, tenant, id, reads),
        }),
      opened => opened.close(),
    );
    const { isolation, 'app-host-socket': sockets } = config;
    const hosts = await lifecycle.open(
      () =>
        openHosts({
          ...{ isolation, clock, log, folder, random },
          environment: options.environment,
          sockets: new Map(sockets),
          programs: defaultRunnerPrograms(),
        }),
      opened => opened.close(),
    );
    const floor = new DiskFloor({ folder, minFreeBytes: config['min-free-disk'], clock });
    const openRuns = await lifecycle.open(
      () =>
        createRuns({
          ...{ store, audit, refusals, alerts, clock, random, log, registry, isolation, floor },
          objects: createObjectStore({
            folder: join(folder, 'objects'),
            maxRunBytes: config['object-space'],
            floor,
          }),
          hostingOf: tenant => hosts.of(tenant),
          countTenants: () => countTenants(access.tenants),
          mostRunning: config['max-runs'],
          mostWaiting: config['max-queued-messages'],
          memoryBytes: config['app-memory'],
          mostRunMs: config['max-run-time'],
          retentionMs: config['run-retention'],
          onAnswered: outcome => metrics.message(outcome),
        }),
      opened => opened.close(),
    );
    later.runs = openRuns;
    await openRuns.recover();
    const sweep = new TenantSweep({
      ...{ tenants: access.tenants, registry, sessions, enrollments, runs: openRuns, clock, log },
    });
    lifecycle.onClose(() => sweep.close());
    void sweep.resume();
    hosts.open();
    metrics.observe({
      certificateExpiresAt: () => certificates.identity.expiresAt,
      sessions: () => sessions.count(),
      runs: () => openRuns.count(),
      nodes: async () => ({ ...(await registry.countAllNodes()) }),
    });

    const caps = { total: config['max-connections'], perAddress: config['max-connections-per-address'] };
    const doorOptions = { caps, clock, log, metrics, refusals };
    const controlPort = await lifecycle.open(
      () =>
        openControlPort({
          ...doorOptions,
          address: config['control-address'],
          context: contextOf(certificates.identity),
          control,
          runControl: createRunControl({ runs: openRuns }),
          access,
          administration: createAdministration(access, tenant => sweep.begin(tenant)),
          auditReading: createAuditReading({ store, checkpoints, retention, trustDomain }),
          assignment: () => ({
            trustDomain,
            links: addressesFor(config['link-addresses'], nodeAddress).map(address => ({ address })),
            serverRoots: certificates.identity.roots.map(der => toPem(der, 'CERTIFICATE')).join(''),
          }),
          requireAuth: config['require-auth'],
          requestCertificate: config['control-client-certificates'],
          ready: () => checkReady(store, () => alive.failure()),
        }),
      port => port.close(),
    );
    controlAddress = controlPort.address;
    const nodePort = await lifecycle.open(
      () =>
        openNodePort({
          ...doorOptions,
          address: config['node-address'],
          context: nodeContext(certificates.identity),
          sessions,
          enrollments,
          objects: openRuns.objects,
        }),
      port => port.close(),
    );

    nodeAddress = nodePort.address;

    certificates.watch({
      use(fresh) {
        nodePort.reload(nodeContext(fresh));
        controlPort.reload(contextOf(fresh));
      },
      async onReloaded({ fingerprint, expiresAt }) {
        sessions.broadcast({ frame: { $case: 'trustBundle', value: trustBundle() } });
        await linkEvents.reloaded(fingerprint, expiresAt);
      },
      onFailed: ({ code }) => linkEvents.reloadFailed(code),
    });
    lifecycle.onClose(() => certificates.close());

    async function drain(): Promise<void> {
      nodePort.stopAccepting();
      controlPort.stopAccepting();
      await sessions.drain();
    }

    await linkEvents.started();
    if (access.setup.path !== undefined) {
      log.info(
        { setupCodeFile: access.setup.path, hint: 'rollcall login --setup' },
        'there is no admin yet: the setup code makes the first one',
      );
    }
    // Nobody waits for these either.
    const looked = checkLogs({ store, audit, log, key: checkpoints.publicKey, onFault: tellFault });
    lifecycle.onClose(() => looked);
    void looked.then(() => retention.run());
    const addresses = { nodeAddress: nodePort.address, controlAddress: controlPort.address };
    // Both ports are open already: counting a million nodes takes seconds, and nobody waits for it.
    registry.countAllNodes().then(
      counts => {
        const { revoked, ...registered } = counts;
        const nodes = Object.values(registered).reduce((sum, count) => sum + count, 0);
        log.info({ ...addresses, trustDomain, nodes, revoked, issuer: access.issuer() }, 'link started');
      },
      (error: unknown) =>
        log.error({ err: error, ...addresses, trustDomain }, 'link started, but cannot count'),
    );
    return {
      addresses: { node: nodePort.address, control: controlPort.address },
      access,
      trustDomain,
      reload: () => certificates.reload(),
      drain,
    };
  }

  function warn(message: string, hint: string): void {
    log.warn({ hint }, message);
  }

  const started = () => {
    if (!running) throw new Error('the link has not been started');
    return running;
  };

  return {
    async start() {
      try {
        running = await open();
      } catch (error) {
        await lifecycle
          .close()
          .catch((later: unknown) => log.error({ err: later }, 'closing after a failed start'));
        throw error;
      }
    },
    reload: () => started().reload(),
    drain: () => started().drain(),
    close: () => lifecycle.close(),
    get addresses() {
      return started().addresses;
    },
    get access() {
      return started().access;
    },
    get trustDomain() {
      return started().trustDomain;
    },
  };
}

function contextOf({ certificate, key }: ServerIdentity): { cert: string; key: string } {
  return { cert: certificate, key };
}

async function checkReady(store: Store, failure: () => unknown): Promise<void> {
  await store.get('meta/schema');
  const failed = failure();
  if (failed !== undefined) throw toRollcallError(failed);
}

/** The link as the audience of its own tokens. */
const linkAudience = 'rollcall';

/** An address that listens everywhere is reached by the name of this machine alone, as far as the link knows. */
function reachable({ host, port }: Address): Address {
  return {
    host: [allAddresses, '0.0.0.0', '::', '127.0.0.1', '::1'].includes(host) ? 'localhost' : host,
    port,
  };
}

function addressesFor(told: readonly string[], address: Address): readonly string[] {
  return told.length > 0 ? told : [formatAddress(reachable(address))];
}

async function findNodeName(
  registry: Registry,
  ...[tenant, id, reads]: Parameters<FindNodeName>
): Promise<string | undefined> {
  const node = /^[1-9]\d{0,19}$/.test(id) ? await registry.findNode(tenant, BigInt(id), reads) : undefined;
  if (!node || node.status === 'revoked') return undefined;
  return node.name === '' ? id : node.name;
}

/** Those that were deleted count while anything of theirs may still run. */
async function countTenants(tenants: Tenants): Promise<number> {
  return (await tenants.list()).length + (await tenants.listLeaving()).length;
}

/** Where a link keeps its store. */
export function storeFolder(dataDir: string): string {
  return join(dataDir, 'store');
}
