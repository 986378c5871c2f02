/** Runs the app of the bench on a link, as an operator does, and returns the result of its server half. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packArchive } from '../src/app-package/app-archive.js';
import { signApp } from '../src/app-package/app-signature.js';
import { ControlClient, RunOutcome, RunStatus, type Run } from '../src/control-client/control-client.js';
import { generatePrivateKey } from '../src/identity/private-key.js';
import { operatorTokenFile } from '../test/harness/operator.js';
import type { BenchLink } from './link.js';
import { sleep } from './usage.js';
import type { Workplace } from './workplace.js';

export const benchApp = join(import.meta.dirname, 'apps/grid');

/** The job of the server half; see bench/apps/grid/server.js. */
export interface JobConfig {
  readonly job: 'latency' | 'saturated' | 'round' | 'object' | 'objects';
  readonly nodes: number;
  readonly rounds?: number;
  readonly messages?: number;
  readonly rate?: number;
  readonly 'size-bytes'?: number;
}

/** The interval of polling the run: short enough to be quick, and too long to cost the link anything. */
const lookEveryMs = 200;

export async function runJob<Result>({ ca }: Workplace, link: BenchLink, config: JobConfig): Promise<Result> {
  const client = new ControlClient({
    address: `localhost:${link.controlPort}`,
    rootCertificates: ca,
    token: readFileSync(operatorTokenFile(link.dataDir), 'utf8'),
  });
  try {
    const { app, archive } = await packArchive(benchApp);
    const key = generatePrivateKey('P-256');
    const named = { name: app.manifest.name, version: app.manifest.version, digest: app.digest };
    const started = await client.runs.start({
      ...{ appName: named.name, appVersion: named.version, appDigest: named.digest },
      ...{ signer: key.publicKey.spki, signature: signApp(key, named), archive },
      config: { ...config, 'link-pid': link.program.pid },
    });
    const { outcome, reason, resultJson } = await untilFinished(client, started.id);
    if (outcome !== RunOutcome.RUN_OUTCOME_COMPLETED)
      throw new Error(`the job ${config.job} did not end well: ${reason}`);
    return JSON.parse(resultJson) as Result;
  } finally {
    client.close();
  }
}

async function untilFinished(client: ControlClient, id: bigint): Promise<Run> {
  for (;;) {
    const run = await client.runs.get(id);
    if (run.status === RunStatus.RUN_STATUS_FINISHED) return run;
    await sleep(lookEveryMs);
  }
}
