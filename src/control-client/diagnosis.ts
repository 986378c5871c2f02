/**
 * Why a link cannot be reached. gRPC folds every failure of a connection into one sentence; this tries once more with
 * bare TLS, which names the reason by a code, and turns it into what is wrong and what to do. It sends nothing.
 */
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { isRollcallError, RollcallError, systemErrorCode, type ErrorCode } from '../base/errors.js';
import { withRouteHint } from '../base/proxy.js';
import { openTunnel } from '../base/tunnel.js';
import { trustServer } from '../identity/server-trust.js';
import type { HttpTarget } from './http-target.js';
import { tunnelTo } from './tunnel.js';

const probeMs = 3_000;

type Failure = Error & { readonly cert?: { readonly subjectaltname?: string } };

interface Finding {
  readonly code: Extract<ErrorCode, 'LINK_UNREACHABLE' | 'LINK_UNVERIFIED'>;
  readonly message: string;
  readonly hint: string;
}

/** Asks the address once more and says why it fails; when it now answers, what `fallback` says. */
export async function diagnose(settings: HttpTarget, fallback: string): Promise<RollcallError> {
  const failure = await probe(settings);
  if (isRollcallError(failure)) return failure;
  const finding = failure ? findingOf(failure, settings) : silentFinding(settings, fallback);
  const found = new RollcallError(finding.code, finding.message, { hint: finding.hint, cause: failure });
  return withRouteHint(found, settings.route ?? {});
}

async function probe(target: HttpTarget): Promise<Failure | undefined> {
  const tunnel = tunnelTo(target, probeMs);
  const { host, port } = target.address;
  try {
    return await probeTls(target, tunnel ? { host, socket: await openTunnel(tunnel) } : { host, port });
  } catch (error) {
    return error as Failure;
  }
}

/** `way` is where to connect, or what is connected. */
function probeTls({ address, roots }: HttpTarget, way: ConnectionOptions): Promise<Failure | undefined> {
  const options: ConnectionOptions = {
    ...way,
    ...trustServer(address.host, roots),
    ALPNProtocols: ['h2'],
  };
  return new Promise(resolve => {
    const timedOut = Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' });
    const timer = setTimeout(() => done(timedOut), probeMs);
    const socket: TLSSocket = connect(options, () => done(undefined));
    const done = (failure: Failure | undefined) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(failure);
    };
    socket.on('error', done);
    socket.on('close', () => done(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
  });
}

function silentFinding({ addressText }: HttpTarget, fallback: string): Finding {
  return {
    code: 'LINK_UNREACHABLE',
    message: `the link at ${addressText} did not answer: ${fallback}`,
    hint: 'is this the control port (9093 by default), and is the link healthy?',
  };
}

const unknownIssuer = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'CERT_SIGNATURE_FAILURE',
  'INVALID_CA',
]);

/** Explains a failed connection. */
export function findingOf(failure: Failure, target: HttpTarget): Finding {
  const { address, addressText, rootsPath, names } = target;
  const code = systemErrorCode(failure) ?? '';
  const unreachable = (message: string, hint: string): Finding => ({
    code: 'LINK_UNREACHABLE',
    message,
    hint,
  });
  const unverified = (message: string, hint: string): Finding => ({ code: 'LINK_UNVERIFIED', message, hint });

  if (unknownIssuer.has(code)) {
    return unverified(
      `what answers at ${addressText} shows a certificate that no root in ${rootsPath} has issued`,
      `give this link's roots with ${names.roots}; if they are right, someone may be in between`,
    );
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const shown = failure.cert?.subjectaltname ?? 'no name at all';
    return unverified(
      `the certificate shown at ${addressText} is not for ${address.host}`,
      `it is for ${shown}; use one of its names with ${names.address}`,
    );
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    const when = code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet';
    return unverified(
      `the certificate shown at ${addressText} ${when}`,
      'renew it on the link, and check the clock of this machine',
    );
  }
  if (code === 'ECONNREFUSED') {
    return unreachable(
      `nothing listens at ${addressText}`,
      `is the link running? start it with rollcall link, or name another with ${names.address} HOST:PORT`,
    );
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return unreachable(`the host name ${address.host} cannot be found`, `check ${names.address} HOST:PORT`);
  }
  if (/^(ERR_SSL_|EPROTO)/.test(code)) {
    return unreachable(
      `what answers at ${addressText} does not speak TLS 1.3`,
      'is this the control port of a link? it is 9093 by default',
    );
  }
  const reasons: Partial<Record<string, string>> = {
    ETIMEDOUT: 'no answer',
    ECONNRESET: 'the connection was closed',
    EHOSTUNREACH: 'there is no way to that host',
    ENETUNREACH: 'there is no way to that network',
  };
  return unreachable(
    `cannot reach the link at ${addressText}: ${reasons[code] ?? (code || 'the connection failed')}`,
    'check the address, the network and the firewall',
  );
}

export class StatedByLink extends RollcallError {
  constructor(error: RollcallError, hint = error.hint) {
    super(error.code, error.message, { hint, cause: error.cause });
  }
}
