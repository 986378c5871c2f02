/**
 * A handshake with itself: the link shows its certificate to a client that judges as a node does, over a pair of
 * streams in this process. So purpose, authorities, path length, names constrained and algorithms are judged by the
 * code that will judge them at the node, and not by a second opinion.
 */
import { duplexPair } from 'node:stream';
import {
  checkServerIdentity,
  connect,
  createSecureContext,
  TLSSocket,
  type SecureContext,
  type SecureContextOptions,
} from 'node:tls';
import { systemErrorCode } from '../../../base/errors.js';
import { trustServer } from '../../../identity/server-trust.js';
import { secure } from './server-context.js';

export interface Verdict {
  /** Why the chain is refused, as Node.js names it (X509_V_ERR_…, ERR_SSL_…); undefined when it is accepted. */
  readonly refused?: string | undefined;
  /** The hosts that the certificate is not for. */
  readonly notFor: readonly string[];
}

/** `roots` is PEM. Dates are judged by the clock of this machine. */
export async function rehearse(
  context: Required<Pick<SecureContextOptions, 'cert' | 'key'>>,
  roots: readonly string[],
  hosts: readonly string[],
): Promise<Verdict> {
  try {
    return await shakeHands(createSecureContext(secure(context)), roots, hosts);
  } catch (error) {
    return { refused: systemErrorCode(error) ?? String(error), notFor: [] };
  }
}

function shakeHands(
  secureContext: SecureContext,
  roots: readonly string[],
  hosts: readonly string[],
): Promise<Verdict> {
  return new Promise((resolve, reject) => {
    const [near, far] = duplexPair();
    const server = new TLSSocket(far, { isServer: true, secureContext });
    const client = connect({
      ...trustServer('localhost', roots),
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      socket: near,
    });
    for (const end of [server, client]) {
      end.on('error', reject);
      end.on('close', () => reject(new Error('the handshake was cut off')));
    }
    client.once('secureConnect', () => {
      const shown = client.getPeerCertificate();
      resolve({
        // Typed as an Error; it is the code.
        refused: client.authorized ? undefined : String(client.authorizationError),
        notFor: hosts.filter(host => checkServerIdentity(host, shown) !== undefined),
      });
      client.destroy();
      server.destroy();
    });
  });
}
