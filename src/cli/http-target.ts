/** Where to ask, and how to know that it is the link. */
import type { Address } from '../base/settings.js';

export interface HttpTarget {
  readonly address: Address;
  readonly addressText: string;
  /** PEM. */
  readonly roots: Buffer;
  readonly rootsPath: string;
}
