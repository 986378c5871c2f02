/** The link as the commands about access ask it: with their settings, and a progress line while a question is open. */
import {
  createAdministration,
  type Administration,
  type AskAdministration,
} from '../../control-client/administration.js';
import { createAsk, type Ask } from '../../control-client/control-http.js';
import { createAsking, openGrpcClient } from '../../control-client/grpc-client.js';
import { createOwnAccount, type OwnAccount } from '../../control-client/own-account.js';
import { AdministrationClient } from '../../protocol/generated/rollcall/v1/administration.js';
import { openControlSettings, type ControlFlags } from '../control-options.js';
import { startProgress } from '../progress.js';
import { warnOn, type Shell } from '../shell.js';

/** The flags of every command here. */
export interface AskFlags extends ControlFlags {
  readonly json?: boolean;
}

/** The link that the flags name. Nothing is printed while a question is open but the progress. */
export async function openAccess(
  shell: Shell,
  flags: ControlFlags,
): Promise<Administration & { readonly account: OwnAccount }> {
  const { target, tokens } = await openControlSettings(flags, shell.environment, warnOn(shell));
  const whileShown = async <T>(question: () => Promise<T>): Promise<T> => {
    const progress = startProgress(shell, `waiting for ${target.addressText}`);
    try {
      return await question();
    } finally {
      progress.clear();
    }
  };
  const askHttp = createAsk(target, tokens);
  const ask: Ask = (...question) => whileShown(() => askHttp(...question));
  const asking = createAsking(target, tokens);
  const askGrpc: AskAdministration = async (method, request) => {
    // An open connection would keep the process alive.
    const client = openGrpcClient(AdministrationClient, target);
    try {
      return await whileShown(() => asking(method(client))(request));
    } finally {
      client.close();
    }
  };
  return { ...createAdministration(askGrpc), account: createOwnAccount(ask) };
}
