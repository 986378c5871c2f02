/** Opens the parts that all others need: the store, the trust domain, the authority and the link's own certificates. */
import { makeSecretFolder } from '../../base/secret-file.js';
import { measureCommits } from '../../store/measured.js';
import { prepareStore } from '../../store/schema.js';
import type { Store } from '../../store/store.js';
import { createAudit, type Audit } from '../audit/audit.js';
import { openAuthority, type Authority } from '../authority/authority.js';
import { serverSettings } from '../config.js';
import { ServerCertificates } from '../doors/tls/server-certificates.js';
import { createMetrics, type Metrics } from '../metrics.js';
import { settleTrustDomain } from '../trust-domain.js';
import type { LinkContext } from './link-context.js';

export interface Foundation {
  readonly metrics: Metrics;
  readonly store: Store;
  readonly trustDomain: string;
  readonly authority: Authority;
  readonly certificates: ServerCertificates;
  readonly audit: Audit;
}

export async function openFoundation(
  { config, clock, random, log, lifecycle }: LinkContext,
  givenStore: Store,
  keyPassphrase: string | undefined,
): Promise<Foundation> {
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
    warn: (message, hint) => log.warn({ hint }, message),
  });
  const certificates = await ServerCertificates.open({
    ...serverSettings(config, keyPassphrase),
    clock,
    log,
  });
  return { metrics, store, trustDomain, authority, certificates, audit: createAudit({ clock }) };
}
