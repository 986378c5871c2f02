/**
 * The states of the runner of a node half, pure.
 *
 *     connecting → loading → idle ⇄ handling → answering → idle
 *
 * and from each of them → ending → exited. A call is one message in work; this file reads nothing of it but its number.
 */
import type { RunnerExit } from '../../app-host/hosting/hosting.js';

export const runnerLimits = {
  stateBytes: 16 * 1024 * 1024,
  /** From the connection to `ready`, ms. */
  loadMs: 5 * 60_000,
  /** From the start to the connection, ms. */
  connectMs: 60_000,
  /** For a handler after its cancel, ms. */
  cancelledMs: 30_000,
  /** From the end of its connection to its exit, ms. */
  closedMs: 2_000,
  noteBytes: 1_024,
} as const;

export interface Call {
  readonly message: { readonly number: number };
}

export type RunnerState<C extends Call> =
  /** Started; it has not shown its token yet. */
  | { readonly phase: 'connecting' }
  /** It is given the app, its settings and its state, and has not said `ready`. */
  | { readonly phase: 'loading' }
  | { readonly phase: 'idle' }
  | { readonly phase: 'handling'; readonly call: C }
  /** The answer has come, and its object is looked up. */
  | { readonly phase: 'answering'; readonly call: C }
  /** It was told to stop, or its connection is gone; its exit is to come. */
  | {
      readonly phase: 'ending';
      /** An answer that came before may still be settled. */
      readonly call: C | undefined;
      readonly wasReady: boolean;
      /** Why it does not load: it would not the next time. */
      readonly failure: string | undefined;
    }
  | { readonly phase: 'exited'; readonly exit: RunnerExit; readonly failure: string | undefined };

/** Undefined for a second connection: nothing that was under way on the first could be made good on it. */
export function connected<C extends Call>(state: RunnerState<C>): RunnerState<C> | undefined {
  return state.phase === 'connecting' ? { phase: 'loading' } : undefined;
}

/** A runner that says so twice stays as it is. */
export function ready<C extends Call>(state: RunnerState<C>): RunnerState<C> {
  return state.phase === 'loading' ? { phase: 'idle' } : state;
}

/** A call that comes too late waits for the exit. */
export function called<C extends Call>(state: RunnerState<C>, call: C): RunnerState<C> {
  if (state.phase === 'ending') return { ...state, call };
  return state.phase === 'exited' ? state : { phase: 'handling', call };
}

/** Undefined for an answer to a message that is not in work, or was answered before. */
export function answered<C extends Call>(
  state: RunnerState<C>,
  number: unknown,
): (RunnerState<C> & { readonly phase: 'answering' }) | undefined {
  if (state.phase !== 'handling' || state.call.message.number !== number) return undefined;
  return { phase: 'answering', call: state.call };
}

/** The caller has the outcome. */
export function settled<C extends Call>(state: RunnerState<C>): RunnerState<C> {
  if (state.phase === 'ending') return { ...state, call: undefined };
  return state.phase === 'handling' || state.phase === 'answering' ? { phase: 'idle' } : state;
}

/** `failure` counts for a runner that has not loaded; the first one stays. */
export function ended<C extends Call>(state: RunnerState<C>, failure?: string): RunnerState<C> {
  switch (state.phase) {
    case 'exited':
      return state;
    case 'ending':
      return state.wasReady ? state : { ...state, failure: state.failure ?? failure };
    case 'connecting':
    case 'loading':
      return { phase: 'ending', call: undefined, wasReady: false, failure };
    case 'idle':
    case 'handling':
    case 'answering':
      return { phase: 'ending', call: callOf(state), wasReady: true, failure: undefined };
  }
}

export function exited<C extends Call>(
  state: RunnerState<C>,
  exit: RunnerExit,
): RunnerState<C> & { readonly phase: 'exited' } {
  return { phase: 'exited', exit, failure: state.phase === 'ending' ? state.failure : undefined };
}

export function callOf<C extends Call>(state: RunnerState<C>): C | undefined {
  return 'call' in state ? state.call : undefined;
}

/** It takes no message any more, and nothing it says counts. */
export function isOver<C extends Call>(state: RunnerState<C>): boolean {
  return state.phase === 'ending' || state.phase === 'exited';
}

export function isReady<C extends Call>(state: RunnerState<C>): boolean {
  return state.phase === 'idle' || state.phase === 'handling' || state.phase === 'answering';
}
