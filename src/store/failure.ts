/** What a back-end's error means to callers: the disk is full, or the store cannot be used now. */
import { RollcallError, systemErrorCode } from '../base/errors.js';

// LevelDB gives the system's words, not its code: "IO error: …/000003.log: No space left on device".
const fullWords = /no space left on device|disk quota exceeded|\bENOSPC\b|\bEDQUOT\b/i;

function isFull(error: unknown): boolean {
  for (let each = error, depth = 0; each instanceof Error && depth < 5; each = each.cause, depth++) {
    const code = systemErrorCode(each);
    if (code === 'ENOSPC' || code === 'EDQUOT' || fullWords.test(each.message)) return true;
  }
  return false;
}

/** STORE_FULL for a full disk or quota, STORE_UNAVAILABLE for the rest; a RollcallError stays what it is. */
export function storeFailure(error: unknown): RollcallError {
  if (error instanceof RollcallError) return error;
  if (isFull(error)) {
    return new RollcallError('STORE_FULL', 'the disk of the link is full: nothing new can be written', {
      hint: 'free space on the disk that holds the data folder',
      cause: error,
    });
  }
  return new RollcallError('STORE_UNAVAILABLE', 'the store of the link cannot be used now; try again later', {
    cause: error,
  });
}
