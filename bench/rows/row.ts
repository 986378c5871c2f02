/** A row of the bench: something measured together, in one or more figures. */
import type { Figure } from '../figures.js';
import type { Stage } from '../stage.js';

export interface Row {
  readonly name: string;
  /** Its description in `--help`. */
  readonly about: string;
  /** Left out of a quick run. */
  readonly isLong?: boolean;
  run(stage: Stage): Promise<Figure[]>;
}
