/** How long tokens last, at most: what is forgotten sooner could still be shown. */

/** Of an access token of a session, ms. */
export const accessLifetimeMs = 15 * 60_000;
/** Of a token of a service, ms. RFC 9700 and the like: it asks again without anybody noticing. */
export const maxServiceTokenMs = 3_600_000;
/** Of an API token, ms. */
export const maxApiTokenMs = 366 * 86_400_000;
