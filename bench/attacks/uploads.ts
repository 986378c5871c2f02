/** Uploads that announce an archive of the maximum size and then send a byte now and then. */
import { credentials, Metadata } from '@grpc/grpc-js';
import { packArchive } from '../../src/app-package/app-archive.js';
import { signApp } from '../../src/app-package/app-signature.js';
import { ControlClient } from '../../src/control-client/control-client.js';
import { generatePrivateKey } from '../../src/identity/private-key.js';
import { RunsClient, type NewRun } from '../../src/protocol/generated/rollcall/v1/runs.js';
import { benchApp } from '../runs.js';
import { now, sleep } from '../usage.js';
import type { Attack, Target } from './attack.js';

const key = generatePrivateKey('P-256');
const announced: NewRun = {
  ...{ appName: 'large', appVersion: '1.0.0', appDigest: Buffer.alloc(32, 1), configJson: '' },
  ...{ signer: key.publicKey.spki, signature: Buffer.alloc(64), idempotencyKey: '' },
  archiveBytes: 64n * 1024n * 1024n,
};

/** Of one submitter; another one is honest. */
export const slowUploads: Attack = {
  name: 'uploads',
  title: 'one principal announces 64 MiB four times, again and again, and sends a byte now and then',
  hostsApps: true,
  async begin(target) {
    const token = await target.token('slow', ['operator']);
    let isOver = false;
    let begun = 0;
    const uploads = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        begun += 1;
        await uploadSlowly(target, token, () => isOver);
        await sleep(100);
      }
    });
    await sleep(1_000);
    return {
      note: () => `${begun} uploads were begun`,
      async end() {
        isOver = true;
        await Promise.all(uploads);
      },
    };
  },
  also: {
    title: 'upload of another principal',
    async ask(target) {
      const client = await honestClient(target);
      const { app, archive } = await packArchive(benchApp);
      const named = { name: app.manifest.name, version: app.manifest.version, digest: app.digest };
      const startedAt = now();
      for (;;) {
        try {
          await client.runs.start({
            ...{ appName: named.name, appVersion: named.version, appDigest: named.digest },
            ...{ signer: key.publicKey.spki, signature: signApp(key, named), archive },
            config: { job: 'round', nodes: 0 },
          });
          return;
        } catch (error) {
          // A good client comes again when the link is busy.
          if ((error as { code?: string }).code !== 'LINK_BUSY' || now() - startedAt > 20_000) throw error;
          await sleep(500);
        }
      }
    },
  },
};

const clients = new WeakMap<object, Promise<ControlClient>>();

function honestClient(target: Target): Promise<ControlClient> {
  const { link, place } = target;
  const client =
    clients.get(link) ??
    target
      .token('honest', ['operator'])
      .then(
        token =>
          new ControlClient({ address: `localhost:${link.controlPort}`, rootCertificates: place.ca, token }),
      );
  clients.set(link, client);
  return client;
}

/** Resolves when the link has ended it. */
async function uploadSlowly({ place, link }: Target, token: string, isOver: () => boolean): Promise<void> {
  const client = new RunsClient(
    `localhost:${link.controlPort}`,
    credentials.createSsl(Buffer.from(place.ca)),
    { 'grpc.use_local_subchannel_pool': 1 },
  );
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  const ended = new AbortController();
  const call = client.startRun(metadata, () => ended.abort());
  call.on('error', () => undefined);
  call.write({ part: { $case: 'run', value: announced } });
  const goesOn = (): boolean => !ended.signal.aborted && !isOver();
  while (goesOn()) {
    call.write({ part: { $case: 'archive', value: Buffer.alloc(1) } });
    for (let waited = 0; waited < 50 && goesOn(); waited += 1) await sleep(100);
  }
  call.cancel();
  client.close();
}
