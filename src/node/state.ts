/**
 * The state that a node keeps between two runs of its process: its session key and certificate, the generation it reached, and the roots it
 * came to trust. All of it is one file, 0600, replaced as a whole and on the disk before anyone relies on it. A file
 * that is damaged or belongs to another node key is set aside and said, never fatal: the node key is enough to enroll
 * again. A file that others can read is refused, since its key is no secret any more.
 *
 * Without a folder everything lives in memory, and the next run enrolls anew.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, RollcallError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { makeSecretFolder, readSecretFile, unlessMissing, writeWholeFile } from '../base/secret-file.js';
import { findNodeId, type NodeId } from '../identity/node-id.js';
import { isTrustDomain } from '../identity/spiffe.js';
import { lockStateFolder } from './state-lock.js';

export interface NodeState {
  /** Fingerprint of the node key this belongs to, `SHA256:…`. */
  readonly nodeKey: string;
  readonly tenant: string;
  readonly trustDomain: string;
  readonly nodeId: NodeId;
  readonly generation: bigint;
  /** PKCS#8 PEM. Secret. */
  readonly sessionKey: string;
  /** PEM, the node's own certificate first. */
  readonly certificateChain: readonly string[];
  /** How long before its end the link wants the certificate renewed, ms. */
  readonly renewalMarginMs: number;
  /** PEM of the server roots accepted from the link. */
  readonly serverRoots: readonly string[];
}

export type Loaded =
  | { readonly kind: 'found'; readonly state: NodeState }
  | { readonly kind: 'nothing' }
  /** Something was there that is of no use; it was renamed to `aside`. */
  | { readonly kind: 'set aside'; readonly why: string; readonly aside: string };

export interface NodeStore {
  load(): Promise<Loaded>;
  /** Durable when it resolves. */
  save(state: NodeState): Promise<void>;
  close(): Promise<void>;
}

/** The owner of the state. */
export interface Owner {
  readonly nodeKey: string;
  readonly tenant: string;
}

const fileName = 'session.json';
const format = 'rollcall node state 1';

/** Remembers nothing past this process. */
export function createMemoryState(): NodeStore {
  return {
    load: () => Promise.resolve({ kind: 'nothing' }),
    save: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

/**
 * Opens the folder, 0700 when it has to be made. FILE_PERMISSIONS when others could change what is in it, CONFIG_INVALID
 * when another agent uses it, FILE_UNREADABLE or FILE_UNWRITABLE when it cannot be used at all.
 */
export async function openStateFolder(folder: string, owner: Owner, random: Random): Promise<NodeStore> {
  const lock = await usingFolder(folder, async () => {
    await makeSecretFolder(folder, 'state folder', '--state-dir');
    await refuseSharedFolder(folder);
    const held = await lockStateFolder(folder, random);
    await removeDrafts(folder);
    return held;
  });
  const path = join(folder, fileName);
  return {
    load: () => load(path, owner),
    save: state => writeWholeFile(path, encodeState(state), { overwrite: true }),
    close: () => lock.release(),
  };
}

async function usingFolder<T>(folder: string, use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    throw fileError('use the state folder', folder, error);
  }
}

async function refuseSharedFolder(folder: string): Promise<void> {
  const { mode } = await stat(folder);
  if ((mode & 0o022) === 0) return;
  throw new RollcallError('FILE_PERMISSIONS', `others may write in the state folder ${folder}`, {
    hint: `chmod 700 ${folder}`,
  });
}

/** Files that a crash in the middle of a write left; each holds a key. */
async function removeDrafts(folder: string): Promise<void> {
  const names = await readdir(folder);
  const drafts = names.filter(name => name.startsWith(`.${fileName}.`));
  await Promise.all(drafts.map(name => rm(join(folder, name), { force: true })));
}

async function load(path: string, owner: Owner): Promise<Loaded> {
  const bytes = await unlessMissing(readSecretFile(path, 'node state'));
  if (!bytes) return { kind: 'nothing' };
  const state = decodeState(bytes.toString('utf8'));
  if (state?.nodeKey === owner.nodeKey && state.tenant === owner.tenant) return { kind: 'found', state };
  const why = state ? 'it belongs to another node key or tenant' : 'it is damaged';
  const aside = `${path}.${state ? 'foreign' : 'damaged'}`;
  await rename(path, aside);
  return { kind: 'set aside', why, aside };
}

export function encodeState(state: NodeState): string {
  const { nodeId, generation, ...rest } = state;
  return `${JSON.stringify({ format, ...rest, nodeId: `${nodeId}`, generation: `${generation}` }, undefined, 2)}\n`;
}

/** Strict: everything is there, nothing else is, and key and certificate belong together. Otherwise undefined. */
export function decodeState(text: string): NodeState | undefined {
  try {
    return readFields(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function readFields(json: unknown): NodeState {
  const { format: said, ...fields } = json as Record<string, unknown>;
  if (said !== format || Object.keys(fields).length !== 9) throw new Error('another format');
  const state: NodeState = {
    nodeKey: text(fields['nodeKey']),
    tenant: text(fields['tenant']),
    trustDomain: text(fields['trustDomain']),
    nodeId: findNodeId(text(fields['nodeId'])) ?? fail('nodeId'),
    generation: counter(fields['generation']),
    sessionKey: text(fields['sessionKey']),
    certificateChain: texts(fields['certificateChain']),
    renewalMarginMs: duration(fields['renewalMarginMs']),
    serverRoots: texts(fields['serverRoots']),
  };
  if (!isTrustDomain(state.trustDomain)) fail('trustDomain');
  checkPems(state);
  return state;
}

function checkPems({ certificateChain, sessionKey, serverRoots }: NodeState): void {
  const [certificate] = certificateChain.map(pem => new X509Certificate(pem));
  if (!certificate?.checkPrivateKey(createPrivateKey(sessionKey))) fail('sessionKey');
  for (const pem of serverRoots) new X509Certificate(pem);
}

function fail(what: string): never {
  throw new Error(`malformed ${what}`);
}

function text(value: unknown): string {
  return typeof value === 'string' && value !== '' ? value : fail('text');
}

function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(text) : fail('list');
}

/** Unsigned, of 64 bits: a greater one would come back as another number. */
function counter(value: unknown): bigint {
  const digits = text(value);
  const number = /^(?:0|[1-9]\d{0,19})$/.test(digits) ? BigInt(digits) : fail('counter');
  return number === BigInt.asUintN(64, number) ? number : fail('counter');
}

function duration(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : fail('duration');
}
