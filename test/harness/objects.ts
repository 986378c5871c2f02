/** Objects on a disk that has room for them. */
import { createObjectStore, type ObjectStore } from '../../src/objects/object-store.js';

export const roomyDisk = {
  isFree: (): Promise<boolean> => Promise.resolve(true),
  require: (): Promise<void> => Promise.resolve(),
};

export function objectStoreIn(folder: string, maxRunBytes = 64 * 1024 ** 3): ObjectStore {
  return createObjectStore({ folder, maxRunBytes, floor: roomyDisk });
}
