/**
 * From what sockets and TLS say to the agent's own errors. Two kinds are kept apart: the link cannot be reached
 * (LINK_UNREACHABLE) and what answers cannot be verified (LINK_UNVERIFIED). Pure; messages stay the same while the
 * cause does, so that a log can tell a change from a repetition: what varies, such as times, is in the hint.
 */
import type { X509Certificate } from 'node:crypto';
import { isRollcallError, RollcallError, systemErrorCode } from '../base/errors.js';
import { wireProtocol } from '../protocol/limits.js';

/** The operator port, something else altogether, or a link of another release. */
export const otherProtocolHint =
  'is this the node port of a link (9092 by default), and are link and agent of the same release?';

const rootsHint = 'check --root-certificates: is it the one this link was set up with?';

interface Finding {
  readonly why: string;
  readonly hint: string;
}

const unknownIssuer: Finding = {
  why: 'its certificate is by an issuer that is not among the root certificates',
  hint: rootsHint,
};

// The names of X509_V_ERR_… as Node.js gives them.
const findings: Readonly<Partial<Record<string, Finding>>> = {
  UNABLE_TO_GET_ISSUER_CERT: unknownIssuer,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownIssuer,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownIssuer,
  DEPTH_ZERO_SELF_SIGNED_CERT: unknownIssuer,
  SELF_SIGNED_CERT_IN_CHAIN: unknownIssuer,
  CERT_UNTRUSTED: unknownIssuer,
  CERT_SIGNATURE_FAILURE: { why: 'the signature of its certificate does not hold', hint: rootsHint },
  ERR_TLS_CERT_ALTNAME_INVALID: {
    why: 'its certificate is not for this host name or address',
    hint: 'use a name that is in the certificate, or make one with --host for this name',
  },
  CERT_HAS_EXPIRED: {
    why: "its certificate has expired by this machine's clock",
    hint: 'check this clock; if it is right, the link needs a new certificate',
  },
  CERT_NOT_YET_VALID: {
    why: "its certificate is not valid yet by this machine's clock",
    hint: 'check this clock',
  },
  INVALID_PURPOSE: { why: 'its certificate is not for servers', hint: 'the link needs a server certificate' },
  INVALID_CA: { why: 'the issuer of its certificate is no certificate authority', hint: rootsHint },
  PATH_LENGTH_EXCEEDED: { why: 'its certificate chain is too long', hint: rootsHint },
  CERT_CHAIN_TOO_LONG: { why: 'its certificate chain is too long', hint: rootsHint },
};

export interface TlsFailure {
  readonly error: Error;
  /** The certificate that was shown; only its dates are repeated. */
  readonly shown?: X509Certificate | undefined;
}

/** Why a TLS handshake with `place` (host:port) failed. `now` is this machine's clock, ms since 1970. */
export function describeTlsFailure(failure: TlsFailure, place: string, now: number): RollcallError {
  const { error, shown } = failure;
  if (isRollcallError(error)) return error;
  const code = systemErrorCode(error) ?? '';
  const finding = findings[code];
  if (finding) {
    return new RollcallError('LINK_UNVERIFIED', `cannot verify the link at ${place}: ${finding.why}`, {
      hint: isAboutDates(code) ? `${clockSentence(shown, now)}; ${finding.hint}` : finding.hint,
      cause: error,
    });
  }
  if (code.endsWith('NO_APPLICATION_PROTOCOL')) {
    return new RollcallError(
      'LINK_UNVERIFIED',
      `cannot verify the link at ${place}: what answers there does not speak ${wireProtocol}`,
      { hint: otherProtocolHint, cause: error },
    );
  }
  if (/^(?:ERR_SSL|ERR_TLS|ERR_OSSL|EPROTO)/.test(code)) {
    return new RollcallError(
      'LINK_UNVERIFIED',
      `cannot verify the link at ${place}: no TLS 1.3 handshake with what answers there`,
      { hint: 'is this the node port of a link, reached directly (TLS must end at the link)?', cause: error },
    );
  }
  if (shown) {
    return new RollcallError(
      'LINK_UNVERIFIED',
      `cannot verify the link at ${place}: its certificate is refused`,
      {
        hint: rootsHint,
        cause: error,
      },
    );
  }
  return new RollcallError(
    'LINK_UNREACHABLE',
    `the link at ${place} closed the connection in the handshake`,
    {
      cause: error,
    },
  );
}

function isAboutDates(code: string): boolean {
  return code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
}

function clockSentence(shown: X509Certificate | undefined, now: number): string {
  const clock = `this machine's clock says ${new Date(now).toISOString()}`;
  return shown ? `${clock}, the certificate is valid from ${shown.validFrom} to ${shown.validTo}` : clock;
}
