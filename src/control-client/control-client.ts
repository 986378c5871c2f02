/**
 * The link for programs: what the `rollcall` command asks, as typed methods. It speaks to the control port alone, over
 * TLS 1.3, and believes only a certificate that the given roots have issued for the host it was given.
 *
 * ```ts
 * import { ControlClient, statusName } from 'rollcall/control';
 *
 * const client = new ControlClient({ address: 'link.example.org:9093', rootCertificates: await readFile('ca.crt') });
 * const node = await client.nodes.register({ publicKey: await readFile('berlin.pub', 'utf8'), name: 'berlin' });
 * for await (const { id, status, reason } of client.nodes.watch({ snapshot: true })) {
 *   if (id === node.id) console.log(statusName(status), reason);
 * }
 * ```
 *
 * Every failure is a RollcallError: `code` from a closed set, a `message` and often a `hint` for people. What every
 * method may throw: TOKEN_REFUSED (log in or make a token anew), NOT_ALLOWED, RATE_LIMITED, REQUEST_INVALID,
 * LINK_UNREACHABLE, and LINK_UNVERIFIED when what answers is not a link whose certificate the roots have issued. Moments are
 * milliseconds since 1970; those of nodes and runs are bigint, as protobuf has them.
 */
import { formatAddress, as, type Address } from '../base/settings.js';
import { RollcallError } from '../base/errors.js';
import { fromPem } from '../base/pem.js';
import {
  chooseRoute,
  parseProxy,
  parseProxyCredentials,
  type ProxySetting,
  type Route,
} from '../base/proxy.js';
import {
  askNodeConfig,
  createAdministration,
  type ApiTokens,
  type Keys,
  type Roles,
  type Services,
  type Tenants,
  type Users,
} from './administration.js';
import type { Assignment, Me, NodeConfig } from './answers.js';
import { AdministrationClient } from '../protocol/generated/rollcall/v1/administration.js';
import { openAudit, type AuditEntry, type AuditFilter, type AuditSource } from './audit.js';
import { createAsk, type Ask } from './control-http.js';
import { createAsking, openGrpcClient } from './grpc-client.js';
import { environmentProxy } from './environment-proxy.js';
import { environmentToken } from './environment-token.js';
import type { HttpTarget } from './http-target.js';
import { openNodes, type NodeReference, type Nodes, type OpenNodes } from './nodes.js';
import { askAssignment, askMe, createOwnAccount, type OwnAccount } from './own-account.js';
import { openRuns, type OpenRuns, type Runs } from './runs.js';
import { parseToken, type TokenSource } from './tokens.js';

export { RollcallError, type ErrorCode } from '../base/errors.js';
export {
  NodeStatus,
  type ListNodeHistoryResponse,
  type ListNodesResponse,
  type Node,
  type DeleteNodeResponse,
  type RevokeNodeResponse,
  type Transition,
} from '../protocol/generated/rollcall/v1/control.js';
export {
  RunOutcome,
  RunStatus,
  type ListRunsResponse,
  type Run,
  type RunLogEntry,
} from '../protocol/generated/rollcall/v1/runs.js';
export type * from './administration.js';
export type * from './answers.js';
export type * from './audit.js';
export { statusName } from '../protocol/node-status.js';
export type { WatchOptions } from './nodes.js';
export type { NewNode, NodeFilter, NodeReference, Nodes, PageRequest } from './nodes.js';
export type { OwnAccount, SecondFactorProof } from './own-account.js';
export { runOutcomeName, runStatusName } from './run-status.js';
export type { LogEvent, LogOptions, RunFilter, RunId, Runs, RunStart } from './runs.js';

export interface ControlClientOptions {
  /** `host:port` of the link's control port; an IPv6 address in brackets. */
  readonly address: string;
  /** The roots that the link's server certificate goes back to, PEM. */
  readonly rootCertificates: string | Buffer;
  /**
   * An access token or API token; what ROLLCALL_TOKEN holds unless given. A function is asked before every question,
   * and once more with the token that the link has just refused: when it then gives another, the question is asked again. What it
   * throws is thrown.
   */
  readonly token?: string | ((refused?: string) => string | Promise<string>);
  /**
   * The HTTP proxy to reach the link through, by CONNECT: `http://host:port` or `https://host:port`, or `environment` for
   * what HTTPS_PROXY and NO_PROXY say. Without it connections go straight to the link, whatever is in the environment.
   */
  readonly proxy?: string | undefined;
  /** `user:password` for the proxy. */
  readonly proxyCredentials?: string | undefined;
  /** The roots of an https:// proxy, PEM; those that Node.js brings unless given. */
  readonly proxyRootCertificates?: string | Buffer | undefined;
}

/** The operations on nodes. */
export interface ClientNodes extends Nodes {
  /** Settings for the node's machine, with new tokens for the programs on it. NOT_ALLOWED without `nodes:register`. */
  config(node: NodeReference): Promise<NodeConfig>;
}

/** The log of the tenant of who asks. NOT_ALLOWED without `audit:read`. */
export interface ClientAudit extends AuditSource {
  /** Every entry that is meant, oldest first by default, asked for page by page as the iteration goes. */
  list(filter?: AuditFilter): AsyncGenerator<AuditEntry, void, undefined>;
}

export class ControlClient {
  readonly nodes: ClientNodes;
  readonly runs: Runs;
  readonly users: Users;
  readonly roles: Roles;
  readonly services: Services;
  readonly tokens: ApiTokens;
  readonly tenants: Tenants;
  readonly keys: Keys;
  readonly audit: ClientAudit;
  readonly account: OwnAccount;
  readonly #ask: Ask;
  readonly #openNodes: OpenNodes;
  readonly #openRuns: OpenRuns;
  readonly #administration: AdministrationClient;

  /** Asks nothing yet. CONFIG_INVALID for options that cannot work, and when there is no token. */
  constructor(options: ControlClientOptions) {
    const target = toTarget(options);
    const tokens = toTokenSource(options);
    const ask = createAsk(target, tokens);
    const asking = createAsking(target, tokens);
    const client = openGrpcClient(AdministrationClient, target);
    const administration = createAdministration((method, request) => asking(method(client))(request));
    this.#openNodes = openNodes(target, tokens);
    this.#openRuns = openRuns(target, tokens);
    this.#ask = ask;
    this.#administration = client;
    this.nodes = { ...this.#openNodes, config: node => askNodeConfig(ask, `${node}`) };
    this.runs = this.#openRuns;
    this.users = administration.users;
    this.roles = administration.roles;
    this.services = administration.services;
    this.tokens = administration.tokens;
    this.tenants = administration.tenants;
    this.keys = administration.keys;
    this.audit = withList(openAudit(target, tokens));
    this.account = createOwnAccount(ask);
  }

  /** The identity and the permissions of this program at the link. */
  me(): Promise<Me> {
    return askMe(this.#ask);
  }

  /** The addresses at which the nodes of the tenant find the link, and the roots that verify it. */
  assignment(): Promise<Assignment> {
    return askAssignment(this.#ask);
  }

  /** Lets go of the connections, which would keep the process alive; watches and logs end as by their signal. */
  close(): void {
    this.#openNodes.close();
    this.#openRuns.close();
    this.#administration.close();
  }
}

function toTarget(options: ControlClientOptions): HttpTarget {
  const { address: text, rootCertificates } = options;
  const address = toAddress(text);
  const roots = Buffer.from(rootCertificates);
  fromPem(roots.toString('latin1'), 'option rootCertificates');
  return {
    address,
    addressText: formatAddress(address),
    route: toRoute(options, address),
    roots,
    rootsPath: 'rootCertificates',
    names: { address: 'address', roots: 'rootCertificates' },
  };
}

const proxyOptionNames = {
  proxy: 'proxy',
  credentials: 'proxyCredentials',
  roots: 'proxyRootCertificates',
} as const;

function toRoute(options: ControlClientOptions, link: Address): Route {
  const { proxy, proxyCredentials, proxyRootCertificates } = options;
  const names = proxyOptionNames;
  const setting = proxy === undefined ? undefined : toProxy(proxy);
  const credentials =
    proxyCredentials === undefined ? undefined : parseProxyCredentials(proxyCredentials, names.credentials);
  const roots = proxyRootCertificates?.toString();
  if (roots !== undefined) fromPem(roots, `option ${names.roots}`);
  return chooseRoute({ setting, credentials, roots, environment: environmentProxy(), link, names });
}

function toProxy(text: string): ProxySetting {
  try {
    return parseProxy(text, proxyOptionNames);
  } catch (error) {
    throw new RollcallError('CONFIG_INVALID', `proxy: ${(error as Error).message}`, { cause: error });
  }
}

function toAddress(text: string): Address {
  try {
    return as.address(text);
  } catch (error) {
    const problem = error instanceof Error ? error.message : 'expected HOST:PORT';
    throw new RollcallError('CONFIG_INVALID', `address: ${problem}`, { cause: error });
  }
}

function toTokenSource({ token = environmentToken() }: ControlClientOptions): TokenSource {
  const refusedHint = 'make a new token with rollcall tokens create, or give one for this link';
  if (typeof token === 'function') {
    return {
      get: async refused => parseToken(await token(refused), 'what the token function gave'),
      refusedHint,
    };
  }
  if (token === undefined || token === '') {
    throw new RollcallError('CONFIG_INVALID', 'there is no token to ask the link with', {
      hint: 'give the option token or set ROLLCALL_TOKEN; rollcall tokens create makes one',
    });
  }
  const fixed = parseToken(token, 'the token');
  return { get: () => fixed, refusedHint };
}

const maxAuditPageSize = 1000;

function withList(source: AuditSource): ClientAudit {
  return {
    ...source,
    async *list(filter) {
      for (let from: number | undefined; ;) {
        const page = await source.listEvents({ ...filter, from, limit: maxAuditPageSize });
        yield* page.entries;
        if (page.next === undefined) return;
        from = page.next;
      }
    },
  };
}
