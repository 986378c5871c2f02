/** The addresses of the link: as configured at first, and as they are once its ports are open. */
import { allAddresses, formatAddress, type Address } from '../../base/settings.js';
import type { UsableLinkConfig } from '../config.js';

export class OwnAddresses {
  readonly #config: UsableLinkConfig;
  control: Address;
  node: Address;

  constructor(config: UsableLinkConfig) {
    this.#config = config;
    this.control = config['control-address'];
    this.node = config['node-address'];
  }

  /** The issuer of access tokens. */
  issuer(): string {
    return this.#config.issuer ?? `https://${formatAddress(reachable(this.control))}`;
  }

  /** The addresses at which nodes reach the link. */
  links(): readonly string[] {
    const configured = this.#config['link-addresses'];
    return configured.length > 0 ? configured : [formatAddress(reachable(this.node))];
  }
}

/** An address that listens everywhere is reached by the name of this machine alone, as far as the link knows. */
function reachable({ host, port }: Address): Address {
  return {
    host: [allAddresses, '0.0.0.0', '::', '127.0.0.1', '::1'].includes(host) ? 'localhost' : host,
    port,
  };
}
