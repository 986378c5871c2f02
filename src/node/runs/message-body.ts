/** Reads the content of a delivered message and the settings of a run. Pure. */
import type { Deliver } from '../../protocol/generated/rollcall/v1/link.js';

/** Empty when the content is an object. */
export function inlineContentOf({ body }: Deliver): Buffer {
  return body?.body?.$case === 'content' ? body.body.value : Buffer.alloc(0);
}

/** Digest of the object that is the content, when it is one. */
export function objectDigestOf({ body }: Deliver): string | undefined {
  return body?.body?.$case === 'object' ? body.body.value.digest.toString('hex') : undefined;
}

/** Undefined for text that is not a JSON object. */
export function parseRunConfig(text: string): object | undefined {
  try {
    const config: unknown = JSON.parse(text === '' ? '{}' : text);
    return typeof config === 'object' && config !== null && !Array.isArray(config) ? config : undefined;
  } catch {
    return undefined;
  }
}
