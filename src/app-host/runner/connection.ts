/**
 * How a runner comes to its connection: it shows its token and is told what it is for, and the first time is given the app and
 * the state. Everything that is said is checked; what comes after that is for anyone who runs the half.
 */
import { connect } from 'node:net';
import { archiveBytes as maxArchiveBytes } from '../../app-package/app-archive.js';
import type { ConfigValue } from '../../app-package/app-manifest.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { visibleText } from '../../base/text.js';
import { createFrameConnection, type Frame, type FrameConnection } from '../wire/frames.js';
import type { Half } from '../hosting/hosting.js';
import { appLimits } from '../../app/limits.js';

export interface Welcome {
  /** Decimal. */
  readonly run: string;
  readonly half: Half;
  readonly app: { readonly name: string; readonly version: string; readonly entry: string };
  readonly config: Readonly<Record<string, ConfigValue>>;
  readonly archiveBytes: number;
  readonly stateBytes: number;
  readonly resumed: boolean;
  /** For node halves. */
  readonly node?: {
    /** Decimal. */
    readonly id: string;
    readonly config: Readonly<Record<string, ConfigValue | bigint>>;
  };
}

export interface RunnerConnection {
  readonly welcome: Welcome;
  /** Empty when it was resumed. */
  readonly archive: Buffer;
  readonly state: Buffer;
  /** Frames that come before there is a listener wait for it. */
  readonly connection: FrameConnection;
}

const protocol = 1;

/** LINK_UNREACHABLE when nobody is there or it breaks off, TOKEN_REFUSED with the reason when the other side says bye. */
export async function openRunnerConnection(socketPath: string, token: string): Promise<RunnerConnection> {
  const connection = keepFrames(await connectTo(socketPath));
  try {
    return await beWelcomed(connection, token);
  } catch (error) {
    if (isRollcallError(error, 'PROTOCOL_INVALID')) connection.bye(error.message);
    else connection.destroy();
    throw error;
  }
}

async function beWelcomed(connection: KeptConnection, token: string): Promise<RunnerConnection> {
  connection.send('run', { protocol, token });
  const next = (): Promise<Frame> => readFrame(connection);
  const welcome = parseWelcome(expectFrame(await next(), 'welcome').value);
  const gather = async (name: string, size: number): Promise<Buffer> => {
    const all = Buffer.alloc(size);
    for (let at = 0; at < size;) {
      const { body } = expectFrame(await next(), name);
      if (body.length === 0 || at + body.length > size) throw malformed(`"${name}" has another length`);
      at += body.copy(all, at);
    }
    return all;
  };
  const archive = await gather('archive', welcome.resumed ? 0 : welcome.archiveBytes);
  const state = await gather('state', welcome.resumed ? 0 : welcome.stateBytes);
  return { welcome, archive, state, connection };
}

function connectTo(socketPath: string): Promise<FrameConnection> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const fail = (cause: unknown): void => reject(unreachable('nobody listens on the socket', cause));
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.off('error', fail);
      resolve(createFrameConnection(socket));
    });
  });
}

interface KeptConnection extends FrameConnection {
  onFrame(listener: ((frame: Frame) => void) | undefined): void;
}

/** Frames that come in one piece with others are not lost while the listener changes. */
function keepFrames(connection: FrameConnection): KeptConnection {
  const kept: Frame[] = [];
  let listener: ((frame: Frame) => void) | undefined;
  connection.onFrame(frame => {
    if (listener) listener(frame);
    else kept.push(frame);
  });
  return {
    ...connection,
    onFrame(next) {
      listener = next;
      for (let frame = kept[0]; frame && listener; frame = kept[0]) {
        kept.shift();
        listener(frame);
      }
    },
    get closed() {
      return connection.closed;
    },
  };
}

/** The next one; nobody listens afterwards. */
function readFrame(connection: KeptConnection): Promise<Frame> {
  return new Promise((resolve, reject) => {
    connection.onFrame(frame => {
      connection.onFrame(undefined);
      if (frame.name !== 'bye') resolve(frame);
      else
        reject(new RollcallError('TOKEN_REFUSED', `refused: ${visibleText(String(frame.value['message']))}`));
    });
    connection.onClose(() => reject(unreachable('the connection was closed')));
  });
}

function expectFrame(frame: Frame, name: string): Frame {
  if (frame.name === name) return frame;
  throw malformed(`"${frame.name}" came instead of "${name}"`);
}

function parseWelcome(value: Frame['value']): Welcome {
  const { run, half, app, config, archiveBytes, stateBytes, resumed, node } = value;
  if (value['protocol'] !== protocol) throw malformed('its version is not ours');
  if (!isDecimal(run)) throw malformed('it names no run');
  if (half !== 'server' && half !== 'node') throw malformed('it names no half');
  if (!isObject(app) || !isObject(config)) throw malformed('it names no app');
  const { name, version, entry } = app;
  if (typeof name !== 'string' || typeof version !== 'string' || typeof entry !== 'string')
    throw malformed('it names no app');
  return {
    run,
    half,
    app: { name, version, entry },
    config: Object.freeze({ ...(config as Record<string, ConfigValue>) }),
    archiveBytes: sizeWithin(archiveBytes, maxArchiveBytes),
    stateBytes: sizeWithin(stateBytes ?? 0, appLimits.maxStateBytes),
    resumed: resumed === true,
    ...(half === 'node' && { node: parseNode(node) }),
  };
}

function parseNode(value: unknown): NonNullable<Welcome['node']> {
  if (!isObject(value) || !isDecimal(value['id']) || !isObject(value['config']))
    throw malformed('it names no node');
  const config = Object.entries(value['config']).map(([name, each]) => [name, fromJson(each)] as const);
  return { id: value['id'], config: Object.freeze(Object.fromEntries(config)) };
}

/** Integers that a number cannot hold come as text. */
function fromJson(value: unknown): ConfigValue | bigint {
  if (isObject(value) && typeof value['integer'] === 'string' && /^-?\d{1,19}$/.test(value['integer']))
    return BigInt(value['integer']);
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  throw malformed('unsupported type of a node setting');
}

function sizeWithin(value: unknown, max: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= max) return value;
  throw malformed('invalid size');
}

function isDecimal(value: unknown): value is string {
  return typeof value === 'string' && /^\d{1,20}$/.test(value);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function unreachable(what: string, cause?: unknown): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', what, { cause });
}

function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `the welcome of a runner is not usable: ${what}`);
}
