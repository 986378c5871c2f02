/** Where a program finds the link for nodes; one entry for each link there is. */
export interface Assignment {
  readonly trustDomain: string;
  readonly links: readonly { readonly address: string }[];
  /** PEM. */
  readonly serverRoots: string;
}
