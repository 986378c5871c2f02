/** The registry, with every node offline that was online when the link was last alive. */
import { startAlive, type Alive } from '../alive.js';
import { Registry } from '../registry/registry.js';
import type { Foundation } from './foundation.js';
import type { LinkContext } from './link-context.js';

export async function openRegistry(
  { clock, random, log, lifecycle }: LinkContext,
  { store, audit, metrics }: Foundation,
): Promise<{ readonly registry: Registry; readonly alive: Alive }> {
  const registry = new Registry({ store, audit, clock, random, log });
  lifecycle.onClose(() => registry.close());
  registry.watchNodes(undefined, ({ status, reason }) => metrics.presence(status, reason));
  const alive = await startAlive(store, clock, log);
  lifecycle.onClose(() => alive.stop());
  await registry.recover(alive.lastAt ?? clock.now());
  return { registry, alive };
}
