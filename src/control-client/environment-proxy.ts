/** The variables that a program of somebody else's may want its proxy taken from; see base/proxy.ts for what they mean. */

export function environmentProxy(): Readonly<Record<string, string | undefined>> {
  const { https_proxy, HTTPS_PROXY, no_proxy, NO_PROXY } = process.env;
  return { https_proxy, HTTPS_PROXY, no_proxy, NO_PROXY };
}
