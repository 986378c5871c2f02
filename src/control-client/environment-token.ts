/** The one thing that this room takes from the process: the token it was started with. */

/** Undefined where ROLLCALL_TOKEN is not set, or empty. */
export function environmentToken(): string | undefined {
  const token = process.env['ROLLCALL_TOKEN'];
  return token === '' ? undefined : token;
}
