/** Why a node is offline: a closed set, which stands in its history, in the audit log and as a label of metrics. */

export const offlineReasons = {
  'closed by node': 'the agent said good-bye',
  'connection lost': 'the connection broke',
  'protocol error': 'the agent sent what has no place in the protocol',
  'no answer': 'a ping was not answered',
  'certificate expired': 'the certificate of its session ended before it was renewed',
  'link stopped': 'the link was stopped',
  'link restarted': 'the link had ended without closing its sessions',
} as const;

export type OfflineReason = keyof typeof offlineReasons;

/** Why a node has the status that it has. */
export type StatusReason = OfflineReason | 'registered' | 'connected' | 'replaced' | 'revoked';
