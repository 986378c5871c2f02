/** Waits until `look` finds a value; the caller calls it after each change. */
export function createWaiting() {
  const looks = new Set<() => void>();
  return {
    look: () => {
      for (const look of [...looks]) look();
    },
    until<T>(find: () => T | undefined): Promise<T> {
      return new Promise(resolve => {
        const look = (): void => {
          const found = find();
          if (found === undefined) return;
          looks.delete(look);
          resolve(found);
        };
        looks.add(look);
        look();
      });
    },
  };
}
