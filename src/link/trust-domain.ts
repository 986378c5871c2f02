/** The trust domain is chosen at the first start and then fixed: it is in every certificate and every signature. */
import { RollcallError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Random } from '../base/random.js';
import type { Store } from '../store/store.js';

const key = 'meta/trust-domain';

/**
 * The stored one; at the first start the wanted one, or a random name, which is a full host name because the URI in a
 * certificate wants one (RFC 5280 §4.2.1.6). A random name is told: agents of a link whose data was lost refuse it.
 */
export async function settleTrustDomain(
  store: Store,
  wanted: string | undefined,
  random: Random,
  log: Pick<Log, 'info'>,
): Promise<string> {
  const stored = await store.get(key);
  if (stored === undefined) {
    const chosen = wanted ?? `fleet-${random(4).toString('hex')}.internal`;
    await store.commit([{ type: 'put', key, value: Buffer.from(chosen) }], [{ key, value: undefined }]);
    if (wanted === undefined) {
      const hint =
        'if this link replaces one whose data was lost, start it on an empty --data-dir with --trust-domain and the old name: agents with their state refuse any other';
      log.info({ trustDomain: chosen, hint }, 'chose a trust domain for this new data folder');
    }
    return chosen;
  }
  const settled = Buffer.from(stored).toString();
  if (wanted === undefined || wanted === settled) return settled;
  throw new RollcallError(
    'CONFIG_INVALID',
    `this data folder belongs to the trust domain ${settled}, not ${wanted}`,
    {
      hint: 'leave --trust-domain out, or use another --data-dir: an empty one takes this name',
    },
  );
}
