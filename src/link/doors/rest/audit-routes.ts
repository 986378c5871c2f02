/** /v1/audit: the log of one's own tenant. */
import { Readable } from 'node:stream';
import type { AuditReading } from '../../audit/audit-reading.js';
import type { RouteName } from '../access-table.js';
import { known, readNumber, type Exchange, type Route } from './route.js';
import { objectOf, text } from './schemas.js';

type AuditRoute = Extract<RouteName, `${string} /v1/audit/${string}`>;

const number = text(16);
const query = objectOf(
  {},
  {
    limit: number,
    from: number,
    since: number,
    until: number,
    newestFirst: { enum: ['true', 'false'] },
    typePrefix: text(200),
    subject: text(200),
    by: text(200),
  },
);

export function auditRoutes(audit: AuditReading): Record<AuditRoute, Route> {
  const tenantOf = ({ principal }: Exchange): string => known(principal).tenant;
  return {
    'GET /v1/audit/events': {
      does: 'events of the audit log',
      schema: { querystring: query },
      answer: exchange => {
        const { typePrefix, subject, by, newestFirst } = exchange.query;
        return audit.listEvents(tenantOf(exchange), {
          limit: readNumber(exchange, 'limit') ?? 100,
          from: readNumber(exchange, 'from'),
          since: readNumber(exchange, 'since'),
          until: readNumber(exchange, 'until'),
          newestFirst: newestFirst === 'true',
          typePrefix,
          subject,
          by,
        });
      },
    },
    'GET /v1/audit/export': {
      does: 'all of it, as lines of JSON',
      answer(exchange) {
        void exchange.reply.type('application/x-ndjson');
        return exchange.hold(Readable.from(withLineEnds(audit.exportLines(tenantOf(exchange)))));
      },
    },
    'POST /v1/audit/checkpoint': {
      does: 'a signed checkpoint of its last entry',
      answer: exchange => audit.checkpoint(tenantOf(exchange)),
    },
  };
}

async function* withLineEnds(lines: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const line of lines) yield `${line}\n`;
}
