/** The name and the labels that operators give a node. */
import { RollcallError } from '../../base/errors.js';

export const maxLabels = 32;

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const labelKeyPattern = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;
// Letters of every language, but nothing that controls a terminal or the direction of writing.
const labelValuePattern = /^[^\p{C}\p{Zl}\p{Zp}]{0,128}$/u;

function invalid(message: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', message);
}

/** Refuses what is no name; the empty name means none. */
export function checkName(name: string): void {
  if (name === '') return;
  if (!namePattern.test(name)) {
    throw invalid(
      'a node name has 1 to 64 letters, digits, ".", "_" or "-", and begins with a letter or digit',
    );
  }
  if (/^\d+$/.test(name))
    throw invalid('a node name of digits alone would be taken for a node id; add a letter');
}

/** Refuses labels that are too many or malformed. */
export function checkLabels(labels: Readonly<Record<string, string>>): void {
  const entries = Object.entries(labels);
  if (entries.length > maxLabels) throw invalid(`a node has at most ${maxLabels} labels`);
  for (const [key, value] of entries) {
    if (!labelKeyPattern.test(key)) {
      throw invalid(
        'a label key has 1 to 63 letters, digits, ".", "_", "/" or "-", and begins with a letter or digit',
      );
    }
    if (typeof value !== 'string' || !labelValuePattern.test(value)) {
      throw invalid(`the value of the label ${key} wants at most 128 printable characters`);
    }
  }
}
