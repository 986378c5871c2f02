/**
 * The link's own certificate while it runs. Its files are read again every ten seconds and taken as soon as they fit:
 * reading sees alike what notices of the system do not, such as a symlink that is swapped (Kubernetes, certbot), a file
 * that is renamed over another, a network mount. Files that do not fit, as while a pair is half written, leave what is in
 * use, are reported once and tried again.
 */
import type { Clock, Timer } from '../../../base/clock.js';
import { toRollcallError, type RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { readServerFiles, type ServerFiles } from './server-files.js';
import { judgeServerFiles, type JudgingOptions, type ServerIdentity } from './server-identity.js';

export interface ServerCertificatesOptions extends Omit<JudgingOptions, 'now'> {
  readonly clock: Clock;
  readonly log: Log;
}

export interface CertificateListener {
  /** From now on this is shown; throws when it cannot be. */
  use(identity: ServerIdentity): void;
  onReloaded(identity: ServerIdentity): Promise<void>;
  /** The certificates in use stay. */
  onFailed(error: RollcallError): Promise<void>;
}

const lookEveryMs = 10_000;
const dayMs = 86_400_000;

export class ServerCertificates {
  readonly #options: ServerCertificatesOptions;
  #identity: ServerIdentity;
  /** Of the files in use. */
  #digest: string;
  /** The files that were told to be unfit, and why. */
  #unfit: string | undefined;
  #listener: CertificateListener | undefined;
  #timer: Timer | undefined;
  #looking = false;
  #last: Promise<unknown> = Promise.resolve();
  #expiryTold: { readonly at: number; readonly expired: boolean } | undefined;

  private constructor(options: ServerCertificatesOptions, identity: ServerIdentity, digest: string) {
    this.#options = options;
    this.#identity = identity;
    this.#digest = digest;
  }

  /** Throws when the files are not fit to be used. */
  static async open(options: ServerCertificatesOptions): Promise<ServerCertificates> {
    const read = await readServerFiles(options.files, options.passphrase);
    const identity = await judgeServerFiles(read, { ...options, now: options.clock.now() });
    for (const warning of identity.warnings) options.log.warn({}, warning);
    return new ServerCertificates(options, identity, read.digest);
  }

  /** The certificates in use. */
  get identity(): ServerIdentity {
    return this.#identity;
  }

  /** Begins to look by itself. */
  watch(listener: CertificateListener): void {
    this.#listener = listener;
    this.#tellExpiry();
    this.#timer = this.#options.clock.every(lookEveryMs, () => {
      this.#tellExpiry();
      if (this.#looking) return;
      this.#looking = true;
      void this.#inTurn(() => this.#look()).finally(() => (this.#looking = false));
    });
  }

  /** Takes the files anew, changed or not; rejects when they are not fit. */
  reload(): Promise<void> {
    return this.#inTurn(async () => this.#take(await this.#read(), true));
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#last;
  }

  /** One after the other: what was read later must not be overtaken. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => undefined);
    return mine;
  }

  #read(): Promise<ServerFiles> {
    return readServerFiles(this.#options.files, this.#options.passphrase);
  }

  async #look(): Promise<void> {
    const read = await this.#read();
    if (read.digest === this.#digest) this.#unfit = undefined;
    // Why it failed has been told.
    else await this.#take(read, false).catch(() => undefined);
  }

  async #take(read: ServerFiles, isAsked: boolean): Promise<void> {
    const { clock, log } = this.#options;
    try {
      const fresh = await judgeServerFiles(read, { ...this.#options, now: clock.now() });
      this.#listener?.use(fresh);
      this.#identity = fresh;
      this.#digest = read.digest;
      this.#unfit = undefined;
    } catch (thrown) {
      const error = toRollcallError(thrown);
      const unfit = `${read.digest} ${error.message}`;
      if (isAsked || unfit !== this.#unfit) {
        this.#unfit = unfit;
        log.error({ err: error, hint: error.hint }, `the old certificates stay: ${error.message}`);
        await this.#listener?.onFailed(error);
      }
      throw error;
    }
    const { fingerprint, expiresAt, warnings } = this.#identity;
    await this.#listener?.onReloaded(this.#identity);
    log.info({ fingerprint, expiresAt: new Date(expiresAt).toISOString() }, 'certificates read again');
    for (const warning of warnings) log.warn({}, warning);
    this.#tellExpiry();
  }

  /** From the last third of its life on, once a day or twelve times in a shorter life, and at its end. */
  #tellExpiry(): void {
    const { clock, log, files } = this.#options;
    const { expiresAt, lifeMs } = this.#identity;
    const leftMs = expiresAt - clock.now();
    const expired = leftMs <= 0;
    const told = this.#expiryTold;
    if (leftMs > lifeMs / 3) {
      this.#expiryTold = undefined;
      return;
    }
    if (told?.expired === expired && clock.elapsed() - told.at < Math.min(dayMs, lifeMs / 12)) return;
    this.#expiryTold = { at: clock.elapsed(), expired };
    const when = new Date(expiresAt).toISOString();
    const fields = { certificateFile: files.certificateFile };
    if (expired)
      log.error(
        fields,
        `the certificate of the link expired on ${when}: nodes and operators refuse the link`,
      );
    else
      log.warn(
        fields,
        `the certificate of the link expires on ${when}; renewed files are taken by themselves`,
      );
  }
}
