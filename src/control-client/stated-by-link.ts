/** An error the link itself stated, as opposed to one found on this side. */
import { RollcallError } from '../base/errors.js';

export class StatedByLink extends RollcallError {
  constructor(error: RollcallError, hint = error.hint) {
    super(error.code, error.message, { hint, cause: error.cause });
  }
}
