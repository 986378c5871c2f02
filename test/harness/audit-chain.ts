/** The promise of the audit log in its shortest form: what src/audit-log finds in an export is held against it. */
import { firstPrevious, hashEntry, type AuditEntry } from '../../src/audit-log/entry.js';

/**
 * The place of the first entry that does not fit, or undefined when all do. Entries that do not begin at number 1
 * are checked from their first on.
 */
export function verifyChain(entries: readonly AuditEntry[]): number | undefined {
  const broken = entries.findIndex((entry, index) => {
    const before = entries[index - 1];
    const previous = before?.hash ?? (entry.seq === 1 ? firstPrevious : entry.previous);
    const isNext = before === undefined || entry.seq === before.seq + 1;
    return !isNext || entry.previous !== previous || entry.hash !== hashEntry(entry);
  });
  return broken === -1 ? undefined : broken;
}
