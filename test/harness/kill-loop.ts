/** Registers nodes as fast as the link takes them, kills it at a moment of chance, and looks at what the next one knows. */
import type { Test } from 'tap';
import type { RunningLink } from '../../scripts/running.js';
import { generatePrivateKey } from '../../src/identity/private-key.js';
import { listAll, statusName, type ControlCalls } from './control-calls.js';

export interface KillSite {
  readonly link: RunningLink;
  readonly control: ControlCalls;
  restart(): Promise<void>;
}

export async function killWhileRegistering(t: Test, site: KillSite, rounds: number): Promise<void> {
  const acknowledged = new Map<bigint, string>();
  let attempted = 0;
  for (let kills = 0; kills < rounds; kills += 1) {
    const { control } = site;
    let killed = false;
    const isKilled = (): boolean => killed;
    // One of the first few dozen registrations is the last.
    const lastOne = acknowledged.size + 1 + Math.floor(Math.random() * 40);
    const worker = async (): Promise<void> => {
      while (!isKilled()) {
        const { publicKey } = generatePrivateKey('P-256');
        attempted += 1;
        const node = await control
          .registerNode({ publicKey: publicKey.spki, name: '', labels: {}, again: false })
          .catch(() => undefined);
        if (node) acknowledged.set(node.id, publicKey.fingerprint);
        if (!isKilled() && acknowledged.size >= lastOne) {
          killed = true;
          site.link.running.process.kill('SIGKILL');
        }
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    await site.link.running.exited;
    await site.restart();
  }
  const known = new Map((await listAll(site.control)).map(node => [node.id, node.fingerprint]));
  let lost = 0;
  for (const [id, fingerprint] of acknowledged) if (known.get(id) !== fingerprint) lost += 1;
  t.equal(
    lost,
    0,
    `${acknowledged.size} acknowledged of ${attempted} attempted over ${rounds} kills, none lost`,
  );
  t.ok(known.size <= attempted, 'nothing is known that nobody asked for');
  for (const [id, fingerprint] of known) {
    const [byId, byKey] = await Promise.all([
      site.control.getNode({ node: `${id}` }),
      site.control.getNode({ node: fingerprint }),
    ]);
    if (byId.id !== byKey.id || statusName(byId) !== 'created') t.fail(`half a record: ${id}`);
  }
}
