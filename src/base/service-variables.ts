/**
 * The variables that Kubernetes gives every container for every Service of its namespace, in the form of Docker links. A
 * Service named `rollcall-link` makes `ROLLCALL_LINK_PORT=tcp://10.0.0.11:9092` and more, which nobody has set.
 * https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
 */
import { isIP } from 'node:net';

/** By the end of the name. What stands before may be longer than a program's prefix: `rollcall-link-control`. */
const shapes: readonly (readonly [name: RegExp, isValue: (text: string) => boolean])[] = [
  [/_SERVICE_HOST$/, isAddress],
  [/_SERVICE_PORT(?:_[A-Z0-9_]+)?$/, isPort],
  [/_PORT$/, isPlace],
  [/_PORT_\d{1,5}_(?:TCP|UDP|SCTP)$/, isPlace],
  [/_PORT_\d{1,5}_(?:TCP|UDP|SCTP)_PROTO$/, text => /^(?:tcp|udp|sctp)$/.test(text)],
  [/_PORT_\d{1,5}_(?:TCP|UDP|SCTP)_PORT$/, isPort],
  [/_PORT_\d{1,5}_(?:TCP|UDP|SCTP)_ADDR$/, isAddress],
];

/** True when both name and value are as Kubernetes makes them; the name alone may be a misspelt setting. */
export function isServiceVariable(name: string, text: string): boolean {
  return shapes.some(([pattern, isValue]) => pattern.test(name) && isValue(text));
}

function isAddress(text: string): boolean {
  return isIP(text) !== 0;
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text);
}

/** `tcp://10.0.0.11:9092`, `tcp://[fd00::11]:9092`. */
function isPlace(text: string): boolean {
  const [, six, four] = /^(?:tcp|udp|sctp):\/\/(?:\[([^\]]+)\]|([^:]+)):\d{1,5}$/.exec(text) ?? [];
  return isAddress(six ?? four ?? '');
}
