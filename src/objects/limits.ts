/** The limits of an object; `docs/protocol.md` and the app host protocol state the same numbers. */

export const chunkBytes = 1024 * 1024;
export const maxChunks = 2048;
/** The largest object, bytes. */
export const maxObjectBytes = maxChunks * chunkBytes;
