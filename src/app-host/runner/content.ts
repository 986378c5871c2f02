/** Contents on their way into frames: within the frame up to 64 KiB, as an object above. */
import { encodeContent, NumberArray, type Content } from '../../app/content.js';
import { RollcallError } from '../../base/errors.js';
import { manifestOf, type Manifest } from '../../objects/manifest.js';
import { limits } from '../../protocol/limits.js';
import type { ObjectName } from './objects.js';

export type OutgoingContent =
  | { readonly bytes: Buffer; readonly manifest?: undefined }
  | { readonly parts: readonly Uint8Array[]; readonly manifest: Manifest };

/**
 * A small one is copied, since it may wait to be sent while the app goes on with its arrays; those of a large one must not
 * change until it is written. REQUEST_INVALID for what cannot travel.
 */
export function prepareContent(content: Content): OutgoingContent {
  if (!isRecord(content))
    throw new RollcallError(
      'REQUEST_INVALID',
      'this content cannot be sent: it is no record, such as { loss: 0.5 }',
    );
  const parts = encodeContent(content);
  const sizeBytes = parts.reduce((sum, part) => sum + part.length, 0);
  if (sizeBytes > limits.contentBytes) return { parts, manifest: manifestOf(parts) };
  return { bytes: Buffer.concat(parts, sizeBytes) };
}

function isRecord(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    !ArrayBuffer.isView(value) &&
    !(value instanceof NumberArray)
  );
}

/** A content as its frame describes it. */
export function nameContent({ manifest }: OutgoingContent): { readonly object?: ObjectName } {
  return manifest ? { object: { digest: manifest.digest, sizeBytes: manifest.sizeBytes } } : {};
}

/** The body of that frame. */
export function bodyOf(content: OutgoingContent): Uint8Array {
  return content.manifest ? Buffer.alloc(0) : content.bytes;
}
