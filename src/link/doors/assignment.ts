/** The addresses of the link for nodes; one entry for each link. */
export interface Assignment {
  readonly trustDomain: string;
  readonly links: readonly { readonly address: string }[];
  /** PEM. */
  readonly serverRoots: string;
}
