/**
 * What the link knows of a run, and how it lies in the store: JSON, with 64-bit numbers as decimal text. Reading is strict: a
 * record that is not whole is INTERNAL, never half a run.
 */
import type { ConfigValue } from '../../app-package/app-manifest.js';

export const runStatusNames = ['pending', 'starting', 'running', 'finished'] as const;
export type RunStatusName = (typeof runStatusNames)[number];
export const runOutcomeNames = ['completed', 'failed', 'stopped'] as const;
export type RunOutcomeName = (typeof runOutcomeNames)[number];

export interface RunApp {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of the list of files, hex. */
  readonly digest: string;
  /** Path of the server half in the app. */
  readonly serverEntry: string;
  readonly nodeEntry: string;
  /** SPKI DER of the author's app key, base64. */
  readonly signer: string;
  readonly signerFingerprint: string;
  /** Base64. */
  readonly signature: string;
  /** The archive as an object of the run. */
  readonly archive: { readonly digest: string; readonly sizeBytes: number };
}

export interface RunCounts {
  /** Nodes that were sent anything. */
  readonly nodes: number;
  readonly sent: number;
  readonly answered: number;
  /** Among those answered: by an error. */
  readonly failed: number;
  readonly logLines: number;
}

export interface RunRecord {
  readonly id: bigint;
  readonly tenant: string;
  readonly app: RunApp;
  readonly status: RunStatusName;
  /** Once it is finished. */
  readonly outcome?: RunOutcomeName;
  readonly reason: string;
  /** `ownerName` of who started it. */
  readonly startedBy: string;
  /** All settings of the run. */
  readonly config: Readonly<Record<string, ConfigValue>>;
  /** Milliseconds since 1970; 0 for what has not happened. */
  readonly createdAt: number;
  readonly startingAt: number;
  readonly runningAt: number;
  readonly finishedAt: number;
  readonly counts: RunCounts;
  /** What the server half returned, JSON; empty for nothing. */
  readonly result: string;
  /** How its server half is hosted, once it was started: whether it outlives this link. */
  readonly hostedBy?: 'process' | 'subprocess';
  /** SHA-256 of the token of its server half, hex. */
  readonly tokenHash?: string;
}

export interface RunLogEntry {
  /** From 1, without gaps. */
  readonly number: number;
  readonly at: number;
  /** 0 for the server half and the link. */
  readonly node: bigint;
  readonly level: string;
  readonly text: string;
}
