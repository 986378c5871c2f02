/**
 * A target for grpc-js that is exactly one address and can be given up while its TCP connection is still being made.
 * grpc-js itself waits for the operating system, two minutes where packets are dropped, and keeps the process so long;
 * but it hands the address on to net.connect() as it is, and that knows signals.
 */
import { experimental, type ChannelOptions } from '@grpc/grpc-js';
import { formatAddress, type Address } from '../base/settings.js';

const scheme = 'rollcall';
const option = 'rollcall.address';

interface StoppableAddress extends Address {
  readonly signal: AbortSignal;
}

export interface Target {
  /** What a client is made with. */
  readonly target: string;
  readonly options: ChannelOptions;
}

/** `host` is an IP address. The signal ends the TCP connection, whether it is made already or not. */
export function targetOf({ host, port }: Address, signal: AbortSignal): Target {
  const address: StoppableAddress = { host, port, signal };
  return { target: `${scheme}:${formatAddress({ host, port })}`, options: { [option]: address } };
}

class OneAddress implements experimental.Resolver {
  readonly #listener: experimental.ResolverListener;
  readonly #address: StoppableAddress;
  #answered = false;

  constructor(
    _target: experimental.GrpcUri,
    listener: experimental.ResolverListener,
    options: ChannelOptions,
  ) {
    this.#listener = listener;
    this.#address = options[option] as StoppableAddress;
  }

  updateResolution(): void {
    // Asked again after a failure: there is no other address, and answering would start another attempt.
    if (this.#answered) return;
    this.#answered = true;
    const endpoints = experimental.statusOrFromValue([{ addresses: [this.#address] }]);
    process.nextTick(() => this.#listener(endpoints, {}, null, ''));
  }

  destroy(): void {
    this.#answered = false;
  }

  static getDefaultAuthority({ path }: experimental.GrpcUri): string {
    return path;
  }
}

experimental.registerResolver(scheme, OneAddress);
