/** Reads everything below a prefix, however much it is, in the order of the keys. */
import type { Entry, Key, Store } from './store.js';

/** Entries of a page may be deleted before the next is read. */
export async function* pagesBelow(
  store: Pick<Store, 'list'>,
  prefix: Key,
  pageSize: number,
): AsyncGenerator<readonly Entry[], void> {
  for (let after: Key | undefined; ;) {
    const page = await store.list({ prefix, after, limit: pageSize });
    if (page.length > 0) yield page;
    if (page.length < pageSize) return;
    after = page.at(-1)?.key;
  }
}
