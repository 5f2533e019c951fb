/**
 * Keeps a link to an init over its stdin and stdout, where a container can not reach a socket: attaches by the engine
 * again and again for as long as the container runs, whoever ended the last attachment.
 */
import type { Log, Timers } from '../../schema/ports.ts';
import type { InitLink } from '../init/link.ts';
import type { Attached } from '../runtime/runtime.ts';
import { pause } from '../deadline.ts';

const retryMs = 500;

export interface AttachmentPorts {
  timers: Timers;
  log: Log;
  /** Attaches now. Rejects when the engine does not answer, or the container does not run. */
  attach(): Promise<Attached>;
}

/** Attaches until `signal` aborts. Never rejects. */
export async function keepAttached(link: InitLink, ports: AttachmentPorts, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const { stream, closed } = await ports.attach();
      if (signal.aborted) stream.destroy();
      else link.attach(stream);
      await closed;
    } catch (error) {
      ports.log.debug('an init could not be attached to', { error: String(error) });
    }
    await pause(ports.timers, retryMs, signal);
  }
}
