/** Fills a store with registered nodes, made and stored by the rooms of the link themselves. */
import { createHash, randomBytes } from 'node:crypto';
import { systemClock } from '../src/base/clock.js';
import { systemRandom } from '../src/base/random.js';
import { curves } from '../src/identity/curve.js';
import { randomNodeId } from '../src/identity/node-id.js';
import { createAudit, type Audit } from '../src/link/audit/audit.js';
import { registeredNode } from '../src/link/registry/node-machine.js';
import { changesOf } from '../src/link/registry/transitions.js';
import { openLevelStore } from '../src/store/level.js';
import { prepareStore } from '../src/store/schema.js';
import type { Change } from '../src/store/store.js';
import { defaultTenant } from '../src/protocol/limits.js';
import type { Workplace } from './workplace.js';
import { userParty } from '../test/harness/parties.js';

/** Nodes written by one commit: a link would take one each, and an hour for all of them. */
const atOnce = 1_000;

/** Nodes are named node-0, node-1 and so on. Their keys are of the right form, without private keys. */
export async function seedRegistry(place: Workplace, folder: string, count: number): Promise<void> {
  const store = await openLevelStore(folder);
  place.onClose(() => store.close());
  await prepareStore(store);
  const audit = createAudit({ clock: systemClock });
  for (let first = 0; first < count; first += atOnce) {
    const size = Math.min(atOnce, count - first);
    const changes = Array.from({ length: size }, (_, index) => changesFor(audit, first + index));
    await store.commit(changes.flat());
  }
  await store.close();
}

function changesFor(audit: Audit, index: number): Change[] {
  const fields = {
    id: randomNodeId(systemRandom),
    tenant: defaultTenant,
    owner: '',
    name: `node-${index}`,
    labels: { site: `site-${index % 100}` },
    registeredAt: systemClock.now(),
    ...randomKey(),
  };
  const { record, history, audit: events } = registeredNode(fields, userParty('bench'));
  return changesOf(audit, undefined, { record, history: history ? [history] : [], audit: events });
}

function randomKey(): { readonly spki: Buffer; readonly fingerprint: string } {
  const spki = Buffer.concat([curves['P-256'].spkiPrefix, randomBytes(64)]);
  const hash = createHash('sha256').update(spki).digest('base64').replace(/=+$/, '');
  return { spki, fingerprint: `SHA256:${hash}` };
}
