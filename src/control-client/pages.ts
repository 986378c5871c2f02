/** Listings that the link gives page by page. */

export interface PageRequest {
  /** 1 to 1000; 100 by default. */
  readonly pageSize?: number;
  /** `nextPageToken` of the page before. */
  readonly pageToken?: string;
}

/** The most items that the link gives at once. */
const maxPageSize = 1000;

/** 0 is the link's own choice. */
export function wholePage({ pageSize = 0, pageToken = '' }: PageRequest): Required<PageRequest> {
  return { pageSize, pageToken };
}

export async function* everyItem<T>(
  askPage: (page: PageRequest) => Promise<{ readonly items: readonly T[]; readonly nextPageToken: string }>,
): AsyncGenerator<T, void, undefined> {
  let pageToken = '';
  do {
    const { items, nextPageToken } = await askPage({ pageSize: maxPageSize, pageToken });
    yield* items;
    pageToken = nextPageToken;
  } while (pageToken !== '');
}
