/** /v1/nodes and what nodes and their programs ask: thin translations of src/link/control.ts. */
import { RollcallError } from '../../../base/errors.js';
import { requireNode } from '../../administration.js';
import type { Access } from '../../access/access.js';
import { nodeJson, transitionJson } from '../../../protocol/node-json.js';
import type { Control } from '../../control.js';
import {
  nodeStatusNames,
  type HistoryEntry,
  type NodeRecord,
  type NodeStatusName,
} from '../../registry/node-record.js';
import type { RouteName } from '../access-table.js';
import type { Assignment } from '../assignment.js';
import { toNode, toTransition } from '../grpc/control-codec.js';
import { known, type Exchange, type Route } from './route.js';
import { anyText, flag, objectOf, text } from './schemas.js';

type NodeRoute = Extract<RouteName, `${string} /v1/${'nodes' | 'node' | 'link' | 'assignment'}${string}`>;

export interface NodeRouteOptions {
  readonly control: Control;
  readonly assignment: () => Assignment;
  readonly version: string;
  readonly access: Pick<Access, 'issueNodeTokens' | 'issuer'>;
}

const pageQuery = { pageSize: text(4), pageToken: text(300) };

export function nodeRoutes({
  control,
  assignment,
  version,
  access,
}: NodeRouteOptions): Record<NodeRoute, Route> {
  const by = ({ principal }: Exchange) => known(principal);
  const nodeOf = ({ parameters }: Exchange): string => parameters['node'] ?? '';
  return {
    'GET /v1/link': {
      does: 'version and trust domain of the link',
      answer: ({ principal }) => ({
        name: 'rollcall',
        version,
        trustDomain: assignment().trustDomain,
        ...(principal && { you: { id: principal.id, name: principal.name, tenant: principal.tenant } }),
      }),
    },
    'GET /v1/assignment': {
      does: 'addresses and server roots for a node',
      answer: exchange => ({ tenant: by(exchange).tenant, ...assignment() }),
    },
    'GET /v1/node': {
      does: 'the node that the token belongs to',
      answer: async exchange => viewNode(await control.getOwnNode(by(exchange), requireNode(by(exchange)))),
    },
    'GET /v1/nodes': {
      does: 'nodes, a page at a time',
      schema: {
        querystring: objectOf(
          {},
          { status: anyText(100), text: anyText(200), label: anyText(500), ...pageQuery },
        ),
      },
      async answer(exchange) {
        const { status = '', text: part, label } = exchange.query;
        const page = await control.listNodes(by(exchange), {
          statuses: status === '' ? [] : status.split(',').map(readStatus),
          text: part,
          labels: readLabels(label),
          ...readPage(exchange.query),
        });
        return { nodes: page.nodes.map(viewNode), nextPageToken: page.nextPageToken };
      },
    },
    'POST /v1/nodes': {
      does: 'registers a public key (SPKI DER, base64) as a node',
      schema: {
        body: objectOf(
          { publicKey: text(300) },
          {
            name: anyText(200),
            labels: { type: 'object', additionalProperties: anyText(500), maxProperties: 100 },
            again: flag,
          },
        ),
      },
      async answer(exchange) {
        const {
          publicKey,
          name = '',
          labels = {},
          again = false,
        } = exchange.body as {
          publicKey: string;
          name?: string;
          labels?: Record<string, string>;
          again?: boolean;
        };
        const request = { publicKey: readBase64(publicKey), name, labels, again };
        return viewNode(await control.registerNode(by(exchange), request));
      },
    },
    'GET /v1/nodes/:node': {
      does: 'one node, by id, name or fingerprint',
      answer: async exchange => viewNode(await control.getNode(by(exchange), nodeOf(exchange))),
    },
    'GET /v1/nodes/:node/history': {
      does: 'what happened to it, a page at a time',
      schema: { querystring: objectOf({}, pageQuery) },
      async answer(exchange) {
        const page = await control.listHistory(by(exchange), nodeOf(exchange), readPage(exchange.query));
        return { transitions: page.transitions.map(viewTransition), nextPageToken: page.nextPageToken };
      },
    },
    'POST /v1/nodes/:node/revoke': {
      does: 'revokes it and cuts its sessions',
      schema: { body: objectOf({}, { comment: anyText(500) }) },
      async answer(exchange) {
        const { comment = '' } = exchange.body as { comment?: string };
        const { node, ...ended } = await control.revokeNode(by(exchange), nodeOf(exchange), comment);
        return { node: viewNode(node), ...ended };
      },
    },
    'DELETE /v1/nodes/:node': {
      does: 'revokes and deletes it',
      async answer(exchange) {
        const { node, sessionsEnded } = await control.deleteNode(by(exchange), nodeOf(exchange));
        return { node: viewNode(node), sessionsEnded };
      },
    },
    'POST /v1/nodes/:node/config': {
      does: 'what its configuration file holds, with tokens for it',
      async answer(exchange) {
        // One's own, or any for those who see all.
        const node = await control.getNode(by(exchange), nodeOf(exchange));
        if (node.status === 'revoked') throw new RollcallError('NODE_REVOKED', 'this node was revoked');
        const tokens = await access.issueNodeTokens(node, by(exchange));
        return {
          id: `${node.id}`,
          name: node.name,
          tenant: node.tenant,
          ...assignment(),
          control: access.issuer(),
          ...tokens,
        };
      },
    },
  };
}

/** As `rollcall nodes show --json` prints it. */
const viewNode = (record: NodeRecord): object => nodeJson(toNode(record));

const viewTransition = (entry: HistoryEntry): object => transitionJson(toTransition(entry));

/** Buffer.from ignores characters that are not base64. */
function readBase64(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') === text) return bytes;
  throw new RollcallError('REQUEST_INVALID', 'publicKey must be SPKI DER in base64');
}

function readStatus(text: string): NodeStatusName {
  const status = nodeStatusNames.find(each => each === text);
  if (status) return status;
  throw new RollcallError('REQUEST_INVALID', 'unknown node status', {
    hint: `known: ${nodeStatusNames.join(', ')}`,
  });
}

/** `site=a,rack=3`. */
function readLabels(text: string | undefined): Record<string, string> {
  const pairs = (text ?? '').split(',').filter(each => each !== '');
  return Object.fromEntries(
    pairs.map(pair => {
      const equals = pair.indexOf('=');
      return equals === -1 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)];
    }),
  );
}

function readPage({ pageSize, pageToken }: Exchange['query']): { pageSize?: number; pageToken?: string } {
  if (pageSize !== undefined && !/^\d{1,4}$/.test(pageSize))
    throw new RollcallError('REQUEST_INVALID', 'pageSize must be a whole number from 1 to 1000');
  return {
    ...(pageSize !== undefined && { pageSize: Number(pageSize) }),
    ...(pageToken !== undefined && { pageToken }),
  };
}
