/**
 * The agent's knowledge of itself while it runs, kept equal to the state folder: a certificate is on the disk before
 * anyone can connect with it. Otherwise a node that crashed would come back with an older generation than the one the
 * link has seen it use, and look like a stolen key.
 */
import type { Clock } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { X509Certificate } from 'node:crypto';
import type { Enrollment } from './enroll.js';
import { acceptServerRoots } from './server-roots.js';
import type { NodeState, NodeStore, Owner } from './state.js';

export interface Memory {
  /** Undefined before the first enrollment. */
  state(): NodeState | undefined;
  /** The state, if there is a certificate that can be connected with. */
  usable(): NodeState | undefined;
  /** Keeps an enrollment; the certificate is usable, and on the disk, when it resolves. */
  keep(enrollment: Enrollment): Promise<void>;
  /** The certificate was refused: the rest is remembered, above all the generation. */
  dropCertificate(): void;
  /** PEM of every root the link may be verified by. */
  serverRoots(): readonly string[];
  /** Takes a bundle the link handed out: the roots in it that are known, or signed by one that is. */
  takeServerRoots(pushed: readonly Uint8Array[]): Promise<void>;
}

export interface MemoryOptions {
  readonly store: NodeStore;
  readonly owner: Owner;
  /** PEM, one certificate each: given to the agent, always trusted. */
  readonly givenRoots: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}

export async function openMemory({ store, owner, givenRoots, clock, log }: MemoryOptions): Promise<Memory> {
  const loaded = await store.load();
  if (loaded.kind === 'set aside') {
    log.warn({ aside: loaded.aside }, `the stored session was set aside: ${loaded.why}; enrolling anew`);
  }
  let state = loaded.kind === 'found' ? loaded.state : undefined;
  /** Monotonic: a stepped clock does not end a certificate. */
  let usableUntil = state ? clock.elapsed() + lifeLeft(state, clock.now()) : 0;
  // One write after the other.
  let writing: Promise<void> = Promise.resolve();

  function write(next: () => NodeState): Promise<void> {
    writing = writing
      .catch(() => undefined)
      .then(async () => {
        const written = next();
        await store.save(written);
        state = written;
      });
    return writing.catch((error: unknown) => {
      throw new RollcallError('STORE_UNAVAILABLE', 'cannot write the state folder', {
        hint: 'until it can be written, no new certificate is used; is the disk full?',
        cause: error,
      });
    });
  }

  function rootsAfter(pushed: readonly Uint8Array[] | undefined): readonly string[] {
    const held = state?.serverRoots ?? [];
    if (!pushed) return held;
    const { accepted, refused } = acceptServerRoots(givenRoots, held, pushed);
    if (refused > 0)
      log.warn(
        { refused, hint: rootsHint(givenRoots) },
        'the link sent CA certificates that no root of this node has signed',
      );
    return accepted;
  }

  return {
    state: () => state,
    usable: () => (clock.elapsed() < usableUntil ? state : undefined),
    async keep(enrollment) {
      const endsAt = clock.elapsed() + enrollment.lifeMs;
      await write(() => toState(owner, enrollment, rootsAfter(enrollment.serverRoots)));
      usableUntil = endsAt;
    },
    dropCertificate: () => void (usableUntil = 0),
    serverRoots: () => [...givenRoots, ...(state?.serverRoots ?? [])],
    async takeServerRoots(pushed) {
      if (!state) return;
      const before = state;
      const serverRoots = rootsAfter(pushed);
      if (sameList(before.serverRoots, serverRoots)) return;
      await write(() => ({ ...(state ?? before), serverRoots }));
      log.info({ roots: serverRoots.length }, 'server roots updated');
    },
  };
}

function toState(owner: Owner, enrollment: Enrollment, serverRoots: readonly string[]): NodeState {
  const { nodeId, trustDomain, generation, certificateChain, sessionKey, renewalMarginMs } = enrollment;
  return {
    ...owner,
    nodeId,
    trustDomain,
    generation,
    certificateChain,
    sessionKey,
    renewalMarginMs,
    serverRoots,
  };
}

/** Why it does not matter now, and what to do. */
function rootsHint(givenRoots: readonly string[]): string {
  return givenRoots.some(pem => new X509Certificate(pem).ca)
    ? 'they are not used; the link is still verified by the roots this node has. If the CA of the link changes, give the new CA certificate by --root-certificates'
    : '--root-certificates holds no CA certificate, but that of the link itself: it verifies the link until the link gets another one; give the CA certificate of the link instead';
}

/** By this machine's clock; when that is off the link will say so, and the node enrolls again. */
function lifeLeft({ certificateChain: [certificate] }: NodeState, now: number): number {
  return certificate === undefined ? 0 : Date.parse(new X509Certificate(certificate).validTo) - now;
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, position) => each === b[position]);
}
