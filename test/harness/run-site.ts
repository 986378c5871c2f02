/** A site on which apps run: a link that hosts server halves, nodes that trust an author, and apps written by the test. */
import { chmod, chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Language } from '../../src/app-host/hosting/hosting.js';
import { startRollcall, type Running, type UserIds } from '../../scripts/running.js';
import { packArchive } from '../../src/app-package/app-archive.js';
import { signApp } from '../../src/app-package/app-signature.js';
import { as } from '../../src/base/settings.js';
import { openRuns, type OpenRuns, type RunStart } from '../../src/control-client/runs.js';
import { formatOpensshPublic } from '../../src/identity/openssh.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import {
  RunOutcome,
  RunStatus,
  type Run,
  type RunLogEntry,
} from '../../src/protocol/generated/rollcall/v1/runs.js';
import { NodeStatus } from '../../src/protocol/generated/rollcall/v1/control.js';
import { prepareOperator } from './operator.js';
import { pythonServerHalf } from './python-half.js';
import { openSite, type Site } from './site.js';
import { makeFolder, newKey } from './test-link.js';

export interface AppSource {
  readonly name?: string;
  readonly server: string;
  /** `server.js` by default. */
  readonly serverFile?: string;
  readonly node?: string;
  /** `node.js` by default. */
  readonly nodeFile?: string;
  readonly config?: Readonly<Record<string, string | number | boolean>>;
}

export interface SiteNode {
  readonly id: string;
  readonly key: PrivateKey;
  running: Running;
}

export interface HostWish {
  readonly socket?: string;
  /** Of the key of that socket; the link's by default. */
  readonly keyPath?: string;
  readonly user?: UserIds;
}

export interface RunSite extends Site {
  readonly author: PrivateKey;
  /** Starts an app host for server halves, or on another socket, as the user of the test by default. */
  startHost(options?: HostWish): Promise<Running>;
  /** Asks the link there is now. */
  runs(): OpenRuns;
  /** Registers a node, starts its agent, and waits until it is online. */
  startTrusting(name: string, more?: readonly string[]): Promise<SiteNode>;
  /** Starts the agent of a node again. */
  restartNode(name: string, node: SiteNode): Promise<void>;
  /** Writes the app and starts a run of it. */
  start(app: AppSource, config?: RunStart['config'], author?: PrivateKey): Promise<Run>;
  /** Waits for the end of a run. */
  finished(run: Run): Promise<Run>;
  /** Starts a run, waits for its end, and gives what it returned. */
  complete<T>(app: AppSource, config?: RunStart['config']): Promise<T>;
  log(run: Run): Promise<RunLogEntry[]>;
}

/** Puts `import`s of the author's library before a half. */
export const serverHalf = (body: string): string =>
  `import { serverApp } from 'rollcall/app';\nexport default serverApp(async ({ grid, config, log, signal }) => {\n${body}\n});\n`;
export const nodeHalf = (handlers: string): string =>
  `import { nodeApp } from 'rollcall/app';\nexport default nodeApp({\n${handlers}\n});\n`;
export const echoNode = nodeHalf('  query: message => message.content,');

/** A server half in each language: what `serverHalf` and `pythonServerHalf` are given. */
export function serverHalves(
  javascript: string,
  python: string,
): Readonly<Record<Language, Pick<AppSource, 'server' | 'serverFile'>>> {
  return {
    javascript: { server: serverHalf(javascript) },
    python: { server: pythonServerHalf(python), serverFile: 'server.py' },
  };
}

/** An actor that owns nothing. */
export const nobody: UserIds = { uid: 65_534, gid: 65_534 };

/** A folder for a socket, which root shares with the group of "nobody" where possible. */
export async function makeHostFolder(t: Test): Promise<string> {
  const folder = await makeFolder(t);
  if (process.getuid?.() !== 0) return folder;
  await chown(folder, 0, nobody.gid);
  // Sockets made in it belong to its group.
  await chmod(folder, 0o2750);
  return folder;
}

export async function openRunSite(
  t: Test,
  {
    isolation = 'subprocess',
    more = [],
  }: { isolation?: 'process' | 'subprocess'; more?: readonly string[] } = {},
): Promise<RunSite> {
  const hostSocket = join(await makeHostFolder(t), 'link.sock');
  const socket = isolation === 'process' ? ['--app-host-socket', hostSocket] : [];
  const site = await openSite(t, ['--isolation', isolation, ...socket, ...more]);
  const author = newKey();
  const authorFile = join(site.folder, 'author.pub');
  await writeFile(authorFile, formatOpensshPublic(author.publicKey, 'author'));
  const token = await prepareOperator(join(site.folder, 'data'));
  const opened = new Map<string, OpenRuns>();
  t.teardown(() => {
    for (const each of opened.values()) each.close();
  });
  let apps = 0;

  function runs(): OpenRuns {
    const { control } = site.link;
    const known = opened.get(control);
    if (known) return known;
    const target = {
      address: as.address(control),
      addressText: control,
      roots: Buffer.from(site.ca),
      rootsPath: 'ca.crt',
      names: { address: '--control', roots: '--root-certificates' },
    };
    const next = openRuns(target, { get: () => token, refusedHint: '' });
    opened.set(control, next);
    return next;
  }

  const flags = new Map<string, readonly string[]>();

  async function startAgent(name: string, key: PrivateKey, id: string): Promise<Running> {
    const running = await site.startNode(name, key, flags.get(name) ?? []);
    await running.says('online');
    for (;;) {
      const { status } = await site.control.getNode({ node: id });
      if (status === NodeStatus.NODE_STATUS_ONLINE) return running;
    }
  }

  async function packed({
    name,
    server,
    serverFile = 'server.js',
    node = echoNode,
    nodeFile = 'node.js',
    config = {},
  }: AppSource) {
    apps += 1;
    const folder = join(site.folder, `app-${apps}`);
    await mkdir(folder);
    const manifest = {
      name: name ?? `app-${apps}`,
      version: '1.0.0',
      server: serverFile,
      node: nodeFile,
      config,
    };
    await writeFile(join(folder, 'app.json'), JSON.stringify(manifest));
    await writeFile(join(folder, serverFile), server);
    await writeFile(join(folder, nodeFile), node);
    return packArchive(folder);
  }

  const self: RunSite = Object.assign(site, {
    author,
    async startHost({ socket: path = hostSocket, keyPath, user }: HostWish = {}) {
      const key = await readFile(keyPath ?? join(site.folder, 'data', 'app-host.key'), 'latin1');
      const host = startRollcall(['app-host', '--socket', path, '--key', '-', '--allow-root'], {
        ...(user && { user }),
        input: key,
      });
      t.teardown(() => host.stop('SIGKILL'));
      await host.line(({ msg }) => /connected/.test(String(msg)));
      return host;
    },
    runs,
    async startTrusting(name: string, extra: readonly string[] = []) {
      const key = newKey();
      const id = await site.register(key);
      flags.set(name, ['--isolation', 'subprocess', '--trust-app-signer', authorFile, ...extra]);
      return { id, key, running: await startAgent(name, key, id) };
    },
    async restartNode(name: string, node: SiteNode) {
      node.running = await startAgent(name, node.key, node.id);
    },
    async start(source: AppSource, config: RunStart['config'] = {}, by = author) {
      const { app, archive } = await packed(source);
      const { manifest, digest } = app;
      const signature = signApp(by, { name: manifest.name, version: manifest.version, digest });
      return runs().start({
        ...{ appName: manifest.name, appVersion: manifest.version, appDigest: digest },
        ...{ signer: author.publicKey.spki, signature, archive, config },
      });
    },
    async finished({ id }: Run) {
      for await (const { run } of runs().log(id, { follow: true }))
        if (run?.status === RunStatus.RUN_STATUS_FINISHED) return run;
      throw new Error('the log ended before the run');
    },
    async complete<T>(source: AppSource, config: RunStart['config'] = {}) {
      const { resultJson, reason, outcome } = await self.finished(await self.start(source, config));
      if (outcome !== RunOutcome.RUN_OUTCOME_COMPLETED)
        throw new Error(`the run did not complete: ${reason}`);
      return JSON.parse(resultJson) as T;
    },
    async log({ id }: Run) {
      const entries: RunLogEntry[] = [];
      for await (const { entry } of runs().log(id)) if (entry) entries.push(entry);
      return entries;
    },
  });
  return self;
}
