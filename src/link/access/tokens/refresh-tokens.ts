/**
 * How refresh tokens are spelled: `rcr_`, the family, 256 bits and a seal. The seal tells, without the store, a token
 * that the link made from one that somebody made up, so that nobody can end a family by knowing its id. A successor is
 * a function of the token before it, so that it can be given twice without being kept. Pure.
 */
import { createHmac } from 'node:crypto';
import type { Random } from '../../../base/random.js';
import { isSameText } from './secret-text.js';

export interface RefreshTokens {
  /** The first of a family, of random bits. */
  first(familyId: string): string;
  /** Of a token that `familyOf` took. */
  successorOf(familyId: string, token: string): string;
  /** The family of a token that this link made at some time, or undefined. */
  familyOf(token: string): string | undefined;
}

const pattern = /^(rcr_([0-9a-f]{32})_[A-Za-z0-9_-]{43})([A-Za-z0-9_-]{22})$/;
const successorLabel = 'rollcall refresh v1';
const sealLabel = 'rollcall refresh seal v1';
const sealBytes = 16;

/** `secret`: 32 random bytes that only the link has. */
export function createRefreshTokens(secret: Buffer, random: Random): RefreshTokens {
  const mac = (label: string, text: string): Buffer =>
    createHmac('sha256', secret).update(`${label}\0${text}`).digest();
  const sealOf = (body: string): string => mac(sealLabel, body).subarray(0, sealBytes).toString('base64url');
  const spell = (familyId: string, bytes: Buffer): string => {
    const body = `rcr_${familyId}_${bytes.toString('base64url')}`;
    return body + sealOf(body);
  };
  return {
    first: familyId => spell(familyId, random(32)),
    successorOf: (familyId, token) => spell(familyId, mac(successorLabel, token)),
    familyOf(token) {
      const [, body = '', familyId = '', seal = ''] = pattern.exec(token) ?? [];
      return isSameText(sealOf(body), seal) ? familyId : undefined;
    },
  };
}
