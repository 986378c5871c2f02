/** The limits that both sides of the wire keep. A peer that exceeds a limit is refused, never waited for. */

/** Versions of the protocol this package speaks, newest first. */
export const protocolVersions = [1] as const;

/** The name of the framing in the TLS handshake (ALPN, RFC 7301). */
export const wireProtocol = 'rollcall/1';

export const limits = {
  /** The maximum length of a message, bytes. */
  messageBytes: 80 * 1024,
  /** The maximum length of a frame of a peer without a session, bytes. */
  strangerFrameBytes: 16 * 1024,
  /** Concurrent transfers of objects on one connection. */
  transfersPerConnection: 8,
  /** Pieces of a transfer that its reader requests at once. */
  piecesAhead: 8,
  /** The maximum size of a content within a message; a larger one is sent as an object. */
  contentBytes: 64 * 1024,
  /** The maximum size of a piece of an object or of an app in one message. */
  pieceBytes: 60 * 1024,
  /** Roots in the bundle that a link sends, and the maximum size of one, bytes. */
  serverRoots: 32,
  serverRootBytes: 16 * 1024,
  /** All roots together, bytes: they travel in one message with the certificate of the node. */
  trustBundleBytes: 48 * 1024,
  /** Lines of a log in one frame of a node. */
  logLinesPerFrame: 1_024,
  /** TLS handshake, from the accepted socket, ms. */
  handshakeMs: 5_000,
  /** From the challenge to the proof, ms. */
  proofMs: 10_000,
  /** A node that received nothing for this long considers the link gone, ms. */
  silenceMs: 30_000,
  /** How long a replaced agent waits before it returns, so that two clones do not flap, ms. */
  replacedPauseMs: 30_000,
} as const;

/** The tenant of everything that names no tenant. */
export const defaultTenant = 'default';
