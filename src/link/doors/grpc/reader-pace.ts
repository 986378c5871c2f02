/** Streams go as fast as their reader reads: what is sent waits here, not in memory. */
import type { ServerWritableStream } from '@grpc/grpc-js';

/** Resolves when the reader has caught up, or is gone. */
export async function waitForReader<Q, A>(call: ServerWritableStream<Q, A>): Promise<void> {
  while (call.writableNeedDrain && !call.cancelled) {
    await new Promise<void>(resolve => {
      const goOn = (): void => {
        call.off('drain', goOn).off('cancelled', goOn);
        resolve();
      };
      call.on('drain', goOn).on('cancelled', goOn);
    });
  }
}
