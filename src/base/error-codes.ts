/**
 * Every error code, once: what it says, and what to do when the error itself brings no hint. The set is closed: a code
 * travels between programs, which decide by it. docs/reference/errors.md is made from this table.
 */

export interface ErrorFacts {
  readonly meaning: string;
  readonly hint: string;
}

export const errorTable = {
  // Configuration and files on this machine.
  CONFIG_INVALID: {
    meaning: 'a setting, or a file that a setting names, is missing or wrong',
    hint: 'mend what the message names; it lists every problem at once',
  },
  FILE_UNREADABLE: {
    meaning: 'a file of this machine cannot be read',
    hint: 'check the path, and who may read it',
  },
  FILE_UNWRITABLE: {
    meaning: 'a file of this machine cannot be written',
    hint: 'check the path, who may write there, and whether the disk is full',
  },
  FILE_PERMISSIONS: {
    meaning: 'others can read or write a file that holds a secret',
    hint: 'close it to others: chmod 600 FILE, chmod 700 FOLDER',
  },
  FILE_EXISTS: {
    meaning: 'the file to be written is there already',
    hint: 'give another name, or remove it',
  },
  // Keys.
  KEY_UNSUPPORTED: {
    meaning: 'the key is not an ECDSA key on P-256 or P-384 in a form that is read here',
    hint: 'make a key with: rollcall keygen 1',
  },
  KEY_PASSPHRASE: {
    meaning: 'the key is encrypted, and no passphrase was given or it does not open the key',
    hint: 'give the passphrase by a file of mode 0600, the environment, or the prompt',
  },
  // Enrollment and link, as the node sees them.
  PROTOCOL_INVALID: {
    meaning: 'the peer sent something that has no place in the protocol',
    hint: 'check that both sides are Rollcall and speak to the right port',
  },
  PROTOCOL_VERSION: {
    meaning: 'the two sides have no version of the protocol in common',
    hint: 'update the older side',
  },
  PROOF_REFUSED: {
    meaning: 'the node did not prove that it holds its key on this connection',
    hint: 'check that the node uses its own private key, and that TLS ends at the link',
  },
  BINDING_REFUSED: {
    meaning: 'the channel binding is not accepted, or the server certificate has none',
    hint: 'see --bindings of the link; use a server certificate signed with ECDSA or RSA',
  },
  NODE_NOT_REGISTERED: {
    meaning: 'the key is proved, and is the key of no registered node of the tenant',
    hint: 'an operator registers it: rollcall nodes register FILE.pub',
  },
  NODE_PENDING: {
    meaning: 'the node waits for the approval of an operator',
    hint: 'wait; the node tries again by itself',
  },
  NODE_QUARANTINED: {
    meaning: 'the node is held back because two holders of its key were seen',
    hint: 'an operator finds out which one is real, and releases it',
  },
  NODE_REVOKED: {
    meaning: 'an operator revoked the node',
    hint: 'register its key again on purpose, or take the machine out of service',
  },
  CERTIFICATE_REFUSED: {
    meaning: 'the node certificate is missing, expired, superseded, or not of this link',
    hint: 'enroll again with the node key',
  },
  SESSION_REPLACED: {
    meaning: 'a newer session of the same node took the place of this one',
    hint: 'if it was another machine, two machines hold this key',
  },
  SESSION_EXPIRED: {
    meaning: 'the certificate that the session was opened with has ended',
    hint: 'renew in time, and connect with the new certificate',
  },
  SESSION_NO_ANSWER: { meaning: 'the node did not answer a ping', hint: 'connect again' },
  LINK_DRAINING: { meaning: 'the link is stopping', hint: 'come back after the pause that it named' },
  LINK_BUSY: {
    meaning: 'too much is open, queued or unread for one more',
    hint: 'read what was answered, and try again in a moment',
  },
  LINK_UNREACHABLE: {
    meaning: 'there is no connection, or it broke',
    hint: 'check the address, and whether the other side is running',
  },
  LINK_UNVERIFIED: {
    meaning:
      'the server roots do not verify the certificate of what answers, or it is the link of another trust domain',
    hint: 'check --root-certificates, the host name and the clock',
  },
  DEADLINE_EXCEEDED: { meaning: 'something did not come in time', hint: 'try again' },
  // Requests of operators.
  REQUEST_INVALID: { meaning: 'the request is wrong', hint: 'mend what the message names' },
  TOKEN_REFUSED: {
    meaning: 'the token is missing, expired, revoked, or not valid here',
    hint: 'get a new one, or log in again: rollcall login',
  },
  LOGIN_REFUSED: {
    meaning: 'the caller did not prove to be the account',
    hint: 'check name, tenant, password, code or secret',
  },
  OTP_REQUIRED: {
    meaning: 'the password is right, and the account has a second factor',
    hint: 'send the code as otp_code',
  },
  NOT_ALLOWED: {
    meaning: 'the caller is known and lacks the permission',
    hint: 'rollcall whoami shows what you may do; an admin gives roles',
  },
  RATE_LIMITED: { meaning: 'too many requests in a span of time', hint: 'wait as long as the answer says' },
  PASSWORD_UNFIT: {
    meaning: 'the new password breaks the rule',
    hint: 'a few words in a row are easy to keep',
  },
  NAME_TAKEN: { meaning: 'the name belongs to another account, role or tenant', hint: 'choose another name' },
  NOT_FOUND: { meaning: 'there is no such thing for this caller', hint: 'list what there is' },
  NODE_NOT_FOUND: {
    meaning: 'there is no such node for this caller',
    hint: 'rollcall nodes list shows them',
  },
  NODE_ALREADY_REGISTERED: {
    meaning: 'the key belongs to a node, or belonged to one that was revoked',
    hint: 'add --again to register the key of a revoked node as a new node',
  },
  NODE_NAME_TAKEN: { meaning: 'the name belongs to another node of the tenant', hint: 'choose another name' },
  RUN_REFUSED: {
    meaning: 'the run cannot start, cannot go on, or ended without success',
    hint: 'rollcall runs logs RUN shows what it said',
  },
  IDEMPOTENCY_KEY_REUSED: {
    meaning: 'the idempotency key started another run before',
    hint: 'send the same app and settings as then, or a new key',
  },
  QUEUE_FULL: { meaning: 'too many messages wait for the node', hint: 'send more when some are answered' },
  // The store.
  STORE_CONFLICT: { meaning: 'somebody else changed the same thing at the same time', hint: 'try again' },
  STORE_UNAVAILABLE: {
    meaning: 'the store cannot be read or written now',
    hint: 'the log of the link says why; try again once it is mended',
  },
  STORE_FULL: {
    meaning: 'the disk, or a share of it, is full',
    hint: 'free space on the disk that holds the data folder',
  },
  STORE_LOCKED: {
    meaning: 'another process has the database open',
    hint: 'stop the other link, or give this one a data folder of its own',
  },
  STORE_SCHEMA: {
    meaning: 'the database was written by a version that this one does not understand',
    hint: 'start the version that wrote it, or a newer one',
  },
  INTERNAL: { meaning: 'a fault on the side that says it', hint: 'its log holds the cause' },
} as const satisfies Readonly<Record<string, ErrorFacts>>;

export type ErrorCode = keyof typeof errorTable;

export const errorCodes = Object.keys(errorTable) as readonly ErrorCode[];
