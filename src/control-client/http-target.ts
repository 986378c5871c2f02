/** Where to ask, and how to know that it is the link. */
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
  /** Where the roots came from, for messages. */
  readonly rootsPath: string;
  /** What address and roots are called where they are given, for hints: `--control`. */
  readonly names: { readonly address: string; readonly roots: string };
}
