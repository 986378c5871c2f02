/** The link to ask, and how to verify it. */
import type { Route } from '../base/proxy.js';
import type { Address } from '../base/settings.js';

export interface HttpTarget {
  readonly address: Address;
  /** `host:port`, for messages. */
  readonly addressText: string;
  /** Straight to the address unless given. */
  readonly route?: Route | undefined;
  /** PEM. */
  readonly roots: Buffer;
  /** The file of the roots, for messages. */
  readonly rootsPath: string;
  /** The names of the options for address and roots, for hints: `--control`. */
  readonly names: { readonly address: string; readonly roots: string };
}
