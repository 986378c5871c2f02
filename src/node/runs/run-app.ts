/** The app of one run: whether this node runs it is decided once, with the first message. */
import { toRollcallError } from '../../base/errors.js';
import { visibleText } from '../../base/text.js';
import { withAbort } from '../../base/wait.js';
import type { MessageErrorCode } from '../../app/message-error.js';
import type { Assign } from '../../protocol/generated/rollcall/v1/link.js';
import type { NodeApp } from './app-source.js';
import type { Answer } from './journal.js';
import { parseRunConfig } from './message-body.js';
import type { RunContext } from './run-context.js';
import { isLost, type RunObjects } from './run-objects.js';

export type AppDecision =
  | { readonly kind: 'app'; readonly app: NodeApp; readonly config: object }
  /** Every message of the run gets this answer. */
  | { readonly kind: 'refused'; readonly answer: Answer };

export class RunApp {
  readonly #run: string;
  readonly #context: RunContext;
  readonly #objects: RunObjects;
  /** The run is over. */
  readonly #ending: AbortSignal;
  #assign: Assign | undefined;
  #decision: Promise<AppDecision> | undefined;
  #loadFailure: string | undefined;

  constructor(run: bigint, context: RunContext, objects: RunObjects, ending: AbortSignal) {
    this.#run = run.toString();
    this.#context = context;
    this.#objects = objects;
    this.#ending = ending;
  }

  /** The first one counts. */
  assign(assign: Assign): void {
    this.#assign ??= assign;
  }

  /** It was decided to run the app, and it does not load: it would not the next time. */
  noteLoadFailure(message: string): void {
    this.#loadFailure = message;
  }

  /** Rejects when the signal is aborted; deciding goes on. */
  async find(signal: AbortSignal): Promise<AppDecision> {
    this.#decision ??= this.#decide().catch((error: unknown) => {
      this.#decision = undefined;
      throw error;
    });
    const decision = await withAbort(this.#decision, signal);
    if (decision.kind === 'refused' || this.#loadFailure === undefined) return decision;
    return refused('APP_INVALID', this.#loadFailure);
  }

  async #decide(): Promise<AppDecision> {
    const assign = this.#assign;
    if (!assign) return refused('REFUSED_BY_NODE', 'the node was not told which app this is');
    const { appName, appVersion } = assign;
    const app = `${visibleText(appName, 63)} ${visibleText(appVersion, 63)}`;
    const config = parseRunConfig(assign.configJson);
    if (!config) return refused('REFUSED_BY_NODE', 'invalid settings of the run: expected a JSON object');
    try {
      return await this.#search(assign, app, config);
    } catch (error) {
      if (!isLost(error)) throw error;
      const reason = toRollcallError(error).message;
      this.#context.log.warn({ run: this.#run, app, reason }, 'an app cannot be had');
      return refused('OBJECT_LOST', 'the node cannot get the files of the app');
    }
  }

  async #search(assign: Assign, app: string, config: object): Promise<AppDecision> {
    const { apps, log } = this.#context;
    const found = await apps.find(assign, ({ digest }) => this.#objects.fetch(digest, 'app', this.#ending));
    if (found.kind === 'app') {
      log.info({ run: this.#run, app, trusted: found.by }, 'an app runs here');
      return { kind: 'app', app: found.app, config };
    }
    log.warn({ run: this.#run, app, reason: found.reason }, 'an app is refused');
    return refused('REFUSED_BY_NODE', found.reason);
  }
}

function refused(code: MessageErrorCode, message: string): AppDecision {
  return { kind: 'refused', answer: { kind: 'error', code, message } };
}
