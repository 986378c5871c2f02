/**
 * Every type of event, with what happened and what its detail holds, in Markdown: docs/reference/audit-events.md is made
 * from this table. The name of a member of the detail is in backticks.
 */

export interface AuditEventFacts {
  readonly happened: string;
  readonly detail?: string;
}

export const auditEvents = {
  'link.started': {
    happened: 'the link started; it had crashed if there is no `link.stopped` since its start before',
    detail: '`version`, `trustDomain`',
  },
  'link.stopped': { happened: 'the link stopped; its last event', detail: '`version`' },
  'link.reloaded': {
    happened: 'certificates were read again (files changed, or SIGHUP); failed: the old ones stay',
    detail: '`certificate` (SHA-256) and `notAfter`, or `reason`',
  },
  'audit.key-changed': {
    happened: 'another key signs checkpoints from now on; in each log that the key before had signed for',
    detail: '`key`, `before` (fingerprints)',
  },
  'audit.trimmed': {
    happened: 'entries left the log after their time',
    detail: '`from`, `to`; `fault` when they did not fit together',
  },
  'audit.fault-found': {
    happened: 'at its start the link found the log changed or cut',
    detail: '`kind`, `entry`, `fault`',
  },
  'setup.completed': { happened: 'the first admin was made', detail: '`name`, `roles`' },
  login: { happened: 'a user logged in', detail: '`session`, `userAgent`' },
  'login.factor-used': {
    happened: 'a code of the second factor was taken at a login',
    detail: '`factor` (`time code` or `recovery code`), `left` (recovery codes)',
  },
  'login.refused': {
    happened: 'somebody did not prove to be this account; counted for a minute',
    detail: '`name`, and how often by error code',
  },
  'session.ended': { happened: 'the holder of a session ended it', detail: '`session`' },
  'session.expired': { happened: 'a session was not used in time', detail: '`session`' },
  'token.refreshed': { happened: 'a refresh token was exchanged', detail: '`session`, `rotation`' },
  'token.refresh-reused': {
    happened: 'a refresh token was used twice, so two parties hold it; the session ended',
    detail: '`session`',
  },
  'token.granted': {
    happened: 'a service got a token',
    detail: '`name`, `audience`, `scope`, `tokenId`, `method`',
  },
  'token.issued': {
    happened: 'a user made an API token; subject: its id',
    detail: '`name`, `roles`, `expiresAt`; `holder` and `holderName` when it is for another user',
  },
  'token.revoked': {
    happened: 'a token was revoked; subject: its id',
    detail: '`name` of an API token',
  },
  'tokens.ended': {
    happened: 'all tokens and sessions that began in a span of time ended; subject: the tenant',
    detail: '`before`; `since` unless the span has no beginning',
  },
  'keys.rotated': {
    happened: 'keys that sign tokens were made, chosen to sign, retired or dropped, also by the link itself',
    detail: '`audience`, `dropOld`, `signsFrom`; ids of keys: `made`, `signing`, `retired`, `dropped`',
  },
  'keys.secret-read': {
    happened: 'the secret of an audience was handed out; subject: the audience',
    detail: '`keys` (ids)',
  },
  'user.created': { happened: 'an account was made', detail: '`name`, `roles`' },
  'user.changed': {
    happened: 'an admin changed an account',
    detail: '`name`, `changed`; `roles` and `enabled` when they were given',
  },
  'user.deleted': {
    happened: 'an account was deleted; its tokens and sessions ended',
    detail: '`name`, `roles`',
  },
  'user.password-changed': { happened: 'a user changed their password', detail: '`name`' },
  'user.second-factor-on': { happened: 'a user turned the second factor on', detail: '`name`' },
  'user.second-factor-off': { happened: 'a user turned the second factor off', detail: '`name`' },
  'service.created': { happened: 'a service was registered', detail: '`name`, `roles`, `audiences`' },
  'service.changed': { happened: 'a service was changed', detail: '`name`, `changed`' },
  'service.deleted': { happened: 'a service was deleted; its tokens ended', detail: '`name`' },
  'service.secret-made': { happened: 'a service got a new secret', detail: '`name`' },
  'role.defined': { happened: 'a role was made', detail: '`permissions`' },
  'role.changed': { happened: 'a role was changed', detail: '`permissions`' },
  'role.removed': { happened: 'a role was removed' },
  'tenant.created': { happened: 'a tenant was made' },
  'tenant.deleted': { happened: 'a tenant was deleted; stands in its own log as well' },
  'node.registered': {
    happened: 'a key was registered as a node',
    detail: '`fingerprint`; `name` when it has one',
  },
  'node.enrolled': {
    happened: 'a node proved its key and got a certificate',
    detail:
      '`address`, `agentVersion`, `remembered`, `generation`, `serial`; `note` when it has forgotten its generation',
  },
  'node.connected': { happened: 'a node came online', detail: '`address`, `agentVersion`' },
  'node.handed-over': {
    happened: 'a node moved to a new connection with a renewed certificate',
    detail: '`address`, `agentVersion`',
  },
  'node.replaced': {
    happened: 'another session of the same node took over',
    detail: '`address`, `agentVersion`, `before` (address)',
  },
  'node.closed': { happened: 'a session ended', detail: '`reason`; `detail` when there is more to say' },
  'node.link-restarted': { happened: 'a node was online when the link went away' },
  'node.revoked': {
    happened: 'a node was revoked',
    detail: '`before` (status); `comment` when there is one',
  },
  'node.deleted': {
    happened: 'a node was deleted; its key is not registered any more',
    detail: '`fingerprint`; `name` when it had one',
  },
  'node.clone-suspected': {
    happened: 'a node remembers a generation that it cannot have',
    detail: '`address`, `agentVersion`, `remembered`, `confirmed`, `issued`',
  },
  'node.tokens-issued': { happened: 'a node was given tokens for REST', detail: '`session`' },
  'run.started': { happened: 'a run was started', detail: '`app`, `version`, `digest`, `signer`' },
  'run.finished': { happened: 'a run completed or failed', detail: '`app`, `outcome`, `reason`' },
  'run.stopped': { happened: 'a run was stopped', detail: '`app`, `outcome`, `reason`' },
  'request.refused': {
    happened: 'a principal asked for what they may not do; counted for a minute',
    detail: 'how often, by missing permission, error code, or error of the token endpoint',
  },
  'peer.refused': {
    happened: 'a peer that has proved nothing was refused; counted for a minute; subject: its network',
    detail: 'how often, by error code',
  },
} as const satisfies Readonly<Record<string, AuditEventFacts>>;

export type AuditEventType = keyof typeof auditEvents;

export const auditEventTypes = Object.keys(auditEvents) as readonly AuditEventType[];
