/** A link and nodes as processes, in a folder of the test's own, with an operator connected. */
import type { Test } from 'tap';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startLinkProcess, startRollcall, type Running, type RunningLink } from '../../scripts/running.js';
import { formatOpensshPrivate } from '../../src/identity/openssh.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import type { ControlCalls } from './control-calls.js';
import { connectOperator, operatorFlags, prepareOperator } from './operator.js';
import { makeFolder, writeCertificates } from './test-link.js';

export interface Site {
  readonly folder: string;
  readonly ca: string;
  link: RunningLink;
  control: ControlCalls;
  /** Starts a link on the ports of the one before. */
  restart(): Promise<void>;
  startNode(name: string, key: PrivateKey, more?: readonly string[]): Promise<Running>;
  register(key: PrivateKey): Promise<string>;
}

export async function openSite(t: Test, more: readonly string[] = []): Promise<Site> {
  const folder = await makeFolder(t);
  const { ca } = await writeCertificates(folder);
  const dataDir = join(folder, 'data');
  const token = await prepareOperator(dataDir);
  const start = async (node?: string, control?: string) => {
    const link = await startLinkProcess({
      certificates: folder,
      dataDir,
      more: [...operatorFlags, ...more],
      ...(node !== undefined && { node }),
      ...(control !== undefined && { control }),
    });
    t.teardown(() => link.running.stop('SIGKILL'));
    const operator = connectOperator(link.control, token, ca);
    t.teardown(() => operator.close());
    return { link, operator };
  };
  const first = await start();
  const site: Site = {
    folder,
    ca,
    link: first.link,
    control: first.operator,
    async restart() {
      const next = await start(site.link.node, site.link.control);
      site.link = next.link;
      site.control = next.operator;
    },
    async startNode(name, key, extra = []) {
      const keyFile = join(folder, `${name}.key`);
      await writeFile(keyFile, formatOpensshPrivate(key, name), { mode: 0o600 });
      const node = startRollcall([
        ...['node', '--link', site.link.node, '--root-certificates', join(folder, 'ca.crt')],
        ...['--auth-private-key', keyFile, '--state-dir', join(folder, 'state', name), ...extra],
      ]);
      t.teardown(() => node.stop('SIGKILL'));
      return node;
    },
    async register(key) {
      const { id } = await site.control.registerNode({
        publicKey: key.publicKey.spki,
        name: '',
        labels: {},
        again: false,
      });
      return `${id}`;
    },
  };
  await mkdir(join(folder, 'state'));
  return site;
}
