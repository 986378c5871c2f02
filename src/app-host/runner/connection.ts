/**
 * A runner opens its connection: it shows its token, and receives its run and, the first time, the app and the state.
 * Everything received is checked; later frames are for the half that runs.
 */
import { connect } from 'node:net';
import { archiveBytes as maxArchiveBytes } from '../../app-package/app-archive.js';
import type { ConfigValue } from '../../app-package/app-manifest.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { visibleText } from '../../base/text.js';
import { type Frame, FrameConnection } from '../wire/frames.js';
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

/** LINK_UNREACHABLE when nothing listens or the connection breaks, TOKEN_REFUSED with the reason of a `bye`. */
export async function openRunnerConnection(socketPath: string, token: string): Promise<RunnerConnection> {
  const connection = await connectTo(socketPath);
  try {
    return await beWelcomed(connection, token);
  } catch (error) {
    if (isRollcallError(error, 'PROTOCOL_INVALID')) connection.bye(error.message);
    else connection.destroy();
    throw error;
  }
}

async function beWelcomed(connection: FrameConnection, token: string): Promise<RunnerConnection> {
  connection.send('run', { protocol, token });
  const next = (): Promise<Frame> => readFrame(connection);
  const welcome = parseWelcome(expectFrame(await next(), 'welcome').value);
  const gather = async (name: string, size: number): Promise<Buffer> => {
    const all = Buffer.alloc(size);
    for (let at = 0; at < size;) {
      const { body } = expectFrame(await next(), name);
      if (body.length === 0 || at + body.length > size) throw malformed(`wrong length of "${name}"`);
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
    const fail = (cause: unknown): void => reject(unreachable('nothing listens on the socket', cause));
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.off('error', fail);
      resolve(new FrameConnection(socket));
    });
  });
}

/** Reads one frame; the connection keeps those that come in one piece with it. */
function readFrame(connection: FrameConnection): Promise<Frame> {
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
  throw malformed(`expected "${name}", found "${frame.name}"`);
}

function parseWelcome(value: Frame['value']): Welcome {
  const { run, half, app, config, archiveBytes, stateBytes, resumed, node } = value;
  if (value['protocol'] !== protocol) throw malformed('unsupported version');
  if (!isDecimal(run)) throw malformed('missing run');
  if (half !== 'server' && half !== 'node') throw malformed('missing half');
  if (!isObject(app) || !isObject(config)) throw malformed('missing app');
  const { name, version, entry } = app;
  if (typeof name !== 'string' || typeof version !== 'string' || typeof entry !== 'string')
    throw malformed('missing app');
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
    throw malformed('missing node');
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
  return new RollcallError('PROTOCOL_INVALID', `invalid welcome: ${what}`);
}
