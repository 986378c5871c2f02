/** What both sides of the wire hold to. A peer that goes past a limit is refused, never waited for. */

/** Versions of the protocol this package speaks, newest first. */
export const protocolVersions = [1] as const;

/** How frames are named in the TLS handshake (ALPN, RFC 7301). */
export const wireProtocol = 'rollcall/1';

export const limits = {
  /** The longest message either side takes, bytes. */
  messageBytes: 80 * 1024,
  /** The longest frame of a peer that has no session, bytes. */
  strangerFrameBytes: 16 * 1024,
  /** Transfers of objects at once on one connection. */
  transfersPerConnection: 8,
  /** Pieces of a transfer that its reader asks for at once. */
  piecesAhead: 8,
  /** The largest content that travels within a message; above it is an object. */
  contentBytes: 64 * 1024,
  /** The largest piece of an object or of an app in one message. */
  pieceBytes: 60 * 1024,
  /** Roots in the bundle that a link hands out, and the largest of them, bytes. */
  serverRoots: 32,
  serverRootBytes: 16 * 1024,
  /** All of them, bytes: they travel in one message with the certificate of the node. */
  trustBundleBytes: 48 * 1024,
  /** Lines of a log in one frame of a node. */
  logLinesPerFrame: 1_024,
  /** TLS handshake, from the accepted socket, ms. */
  handshakeMs: 5_000,
  /** From the challenge to the proof, ms. */
  proofMs: 10_000,
  /** A node that heard nothing for this long takes the link for gone, ms. */
  silenceMs: 30_000,
  /** How long a replaced agent waits before it returns, so that two clones do not flap, ms. */
  replacedPauseMs: 30_000,
} as const;

/** The tenant of everything that names none. */
export const defaultTenant = 'default';
