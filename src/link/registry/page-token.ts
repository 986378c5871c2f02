/**
 * The position of a listing, as text for the caller to hand back. It carries a check over the place and over what was
 * asked, so that a token that was changed, cut, or used with other filters is refused instead of giving odd pages.
 * It is no secret and needs none: anyone who may list may begin anywhere.
 */
import { sha256Hex } from '../../base/hash.js';
import { RollcallError } from '../../base/errors.js';

/** The size of a page: 1 to 1000, 100 by default. */
export function checkPageSize(pageSize = 100): number {
  if (Number.isInteger(pageSize) && pageSize >= 1 && pageSize <= 1000) return pageSize;
  throw new RollcallError('REQUEST_INVALID', 'the page size is a whole number from 1 to 1000');
}

function checkOf(asked: readonly unknown[], place: bigint): string {
  const text = JSON.stringify(['rollcall page v1', asked, `${place}`]);
  return sha256Hex(text).slice(0, 16);
}

/** The token of a place, for a listing that asked this. */
export function makePageToken(asked: readonly unknown[], place: bigint): string {
  return Buffer.from(`${place}.${checkOf(asked, place)}`).toString('base64url');
}

/** The place of a token; undefined for none or an empty one, REQUEST_INVALID for any other text. */
export function readPageToken(asked: readonly unknown[], token: string | undefined): bigint | undefined {
  if (token === undefined || token === '') return undefined;
  const match = /^(\d{1,20})\.[0-9a-f]{16}$/.exec(
    token.length > 100 ? '' : Buffer.from(token, 'base64url').toString('latin1'),
  );
  const place = match && BigInt(match[1] ?? '');
  if (place !== null && makePageToken(asked, place) === token) return place;
  throw new RollcallError('REQUEST_INVALID', 'the page token does not belong to this listing', {
    hint: 'use the token as it came, with the same filters, or begin again without one',
  });
}
