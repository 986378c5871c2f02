/**
 * The answers of the link as callers see them. Moments and durations are milliseconds, moments since 1970. A
 * test holds these against the types that the link itself answers with.
 */

/** The caller. */
export interface Me {
  readonly kind: 'user' | 'service' | 'node';
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
  readonly roles: readonly string[];
  readonly permissions: readonly string[];
  /** When the token ends. */
  readonly expiresAt: number;
}

/** The link as nodes find it. */
export interface Assignment {
  readonly tenant: string;
  readonly trustDomain: string;
  /** `host:port` each. */
  readonly links: readonly { readonly address: string }[];
  /** PEM. */
  readonly serverRoots: string;
}

/** The settings of a node's machine, with tokens for the programs on it. */
export interface NodeConfig extends Assignment {
  /** Decimal. */
  readonly id: string;
  /** Empty when it has none. */
  readonly name: string;
  /** The `https://` address for its programs. */
  readonly control: string;
  readonly accessToken: string;
  readonly refreshToken: string;
}

export interface User {
  readonly id: string;
  readonly name: string;
  readonly roles: readonly string[];
  readonly enabled: boolean;
  /** Whether there is one. */
  readonly secondFactor: boolean;
  readonly createdAt: number;
}

export interface NewUser {
  readonly name: string;
  readonly roles: readonly string[];
  /** 15 to 256 characters. */
  readonly password: string;
}

export interface UserChange {
  /** In place of those before. */
  readonly roles?: readonly string[];
  readonly enabled?: boolean;
  /** Ends every session and API token there is. */
  readonly endSessions?: boolean;
  /** A new password; ends every session too. */
  readonly password?: string;
  /** For who lost the device. */
  readonly removeSecondFactor?: boolean;
}

export interface Role {
  readonly name: string;
  readonly permissions: readonly string[];
  /** Never changes. */
  readonly builtIn: boolean;
}

/** The roles of the tenant, and every permission there is. */
export interface RoleMatrix {
  readonly roles: readonly Role[];
  readonly permissions: readonly { readonly name: string; readonly allows: string }[];
}

export interface ServiceSettings {
  readonly enabled?: boolean;
  /** The roles that it has at the link. */
  readonly roles?: readonly string[];
  /** Whom it may ask tokens for. */
  readonly audiences?: readonly string[];
  /** Scopes it may ask for at other audiences than the link. */
  readonly scopes?: readonly string[];
  /** Networks it may ask from (`10.0.0.0/8`); none: from anywhere. */
  readonly addresses?: readonly string[];
  /** How long its tokens last. */
  readonly tokenLifetimeMs?: number;
  /** Public keys for `private_key_jwt` (RFC 7523), SPKI PEM. */
  readonly publicKeys?: readonly string[];
  /** `x5t#S256` of certificates it may come with (RFC 8705 §2.2), base64url. */
  readonly certificates?: readonly string[];
}

export interface ServiceChange extends ServiceSettings {
  /** Its tokens of before are not taken at the link any more. */
  readonly endTokens?: boolean;
}

export interface Service extends Required<ServiceSettings> {
  /** The `client_id` of OAuth. */
  readonly id: string;
  readonly name: string;
  /** How many there are. */
  readonly secrets: number;
  readonly createdAt: number;
  /** Tokens from before this moment are refused. */
  readonly validAfter: number;
}

/** The secret is told this once. */
export interface ServiceSecret {
  readonly service: Service;
  readonly secret: string;
}

/** Milliseconds since 1970: what began from `since` on, and before `before`, has ended. */
export interface EndedTime {
  readonly since: number;
  readonly before: number;
  /** Whether the login or token that asked has ended too; a link of before does not say it. */
  readonly ownEnded?: boolean;
}

export interface ApiToken {
  readonly id: string;
  readonly name: string;
  /** The id of the user whose rights bound it. */
  readonly holder: string;
  readonly holderName: string;
  /** The id and name of who made it for the holder; undefined where the holder did. */
  readonly madeBy?: string | undefined;
  readonly madeByName?: string | undefined;
  readonly roles: readonly string[];
  readonly createdAt: number;
  readonly expiresAt: number;
}

export interface NewApiToken {
  readonly name: string;
  /** Of those that the holder has. */
  readonly roles: readonly string[];
  /** A minute to 366 days. */
  readonly lifetimeMs: number;
  /** Name or id of the user it is for, with `users:manage`; defaults to who asks. */
  readonly user?: string | undefined;
}

/** The token is told this once. */
export interface IssuedToken {
  readonly record: ApiToken;
  readonly token: string;
}

export interface Tenant {
  readonly name: string;
  /** 0 for the default one, which was never made. */
  readonly createdAt: number;
}

/** With its first admin, who makes all others. */
export interface NewTenant {
  readonly name: string;
  /** The name of that user. */
  readonly admin: string;
  readonly password: string;
}

export interface DeletedTenant {
  /** Live sessions and enrollments of its nodes that were ended. */
  readonly sessionsEnded: number;
}

/** A key of the link that signs tokens, or did. */
export interface TokenKey {
  readonly kid: string;
  readonly algorithm: string;
  /** Null for a key that serves all audiences without one of their own. */
  readonly audience: string | null;
  /** `next` waits, published, until those who verify have fetched it. */
  readonly use: 'next' | 'signs' | 'verifies';
  /** Since when it is published. */
  readonly createdAt: number;
  /** From when it signs; null while it waits and nothing was decided. */
  readonly signsAt: number | null;
  /** From when it only verifies; null while nothing is to follow it. */
  readonly retiredAt: number | null;
}

export interface KeyRotation {
  /** New: they wait, but for those that had to sign at once. */
  readonly made: readonly TokenKey[];
  /** They sign from their `signsAt` on, which is now or soon. */
  readonly signing: readonly TokenKey[];
  /** They only verify, from their `retiredAt` on. */
  readonly retired: readonly TokenKey[];
  /** They do nothing any more. */
  readonly dropped: readonly TokenKey[];
}

export interface RotateOptions {
  /** Only the key that signs for it; all of them by default. */
  readonly audience?: string;
  /** Every token signed with a key of before is refused from now on, the one that this is asked with too. */
  readonly dropOld?: boolean;
  /** The next key signs at once, although verifiers may not have fetched it yet. */
  readonly now?: boolean;
}

/** A secret that an audience verifies tokens with. */
export interface AudienceSecret {
  readonly kid: string;
  readonly use: TokenKey['use'];
  /** Base64url. */
  readonly secret: string;
}
