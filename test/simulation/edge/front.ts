/** The edge as one host reaches it: the agent's own ports for sockets and HTTP, over the host's way. */
import { EdgeRefusal, type Post, type Put } from '../../../agent-daemon/tunnel/edge-api.ts';
import type { Dial, Socket } from '../../../agent-daemon/tunnel/socket.ts';
import { errors, Refusal } from '../../../schema/errors.ts';
import type { Chance } from '../chance.ts';
import type { VirtualTime } from '../clock.ts';
import type { SimEdge } from './edge.ts';
import type { AgentEnd, Link, Way } from './links.ts';

export interface FrontPorts {
  edge: SimEdge;
  way: Way;
  time: VirtualTime;
  chance: Chance;
  /** What the agent says on its control socket; answers how its release says it. */
  says: (bytes: Uint8Array) => Uint8Array;
  /** What the runtime answers there by itself. */
  hears: (text: string) => void;
}

/** Dials as `ws` does: the socket is there for its listener before it is open. */
export function dialOf({ edge, way, says, hears }: FrontPorts): Dial {
  return (request, listen) =>
    new Promise((resolve, reject) => {
      let link: Link | undefined;
      const url = new URL(request.url);
      const isControl = url.searchParams.get('purpose') === 'control';
      const socket: Socket = {
        send: (bytes, sent) => {
          link?.agentSend(isControl ? says(bytes) : bytes, sent);
        },
        sendText: (text) => link?.agentText(text),
        bufferedBytes: () => 0,
        close: (code, reason) => link?.agentClose(code, reason),
        destroy: () => link?.agentDestroy(),
      };
      const events = listen(socket);
      const end: AgentEnd = {
        message: (bytes) => events.message(bytes),
        text: (text) => {
          if (isControl) hears(text);
          events.text(text);
        },
        closed: (code, reason) => events.closed(code, reason),
      };
      const { signal } = request;
      const abort = () => {
        link?.agentDestroy();
        reject(signal.reason as Error);
      };
      if (signal.aborted) {
        abort();
        return;
      }
      signal.addEventListener('abort', abort, { once: true });
      edge.worker.dial(way, url, request.headers, end).then(
        (opened) => {
          link = opened;
          if (signal.aborted) opened.agentDestroy();
          signal.removeEventListener('abort', abort);
          resolve(socket);
        },
        (error: unknown) => {
          signal.removeEventListener('abort', abort);
          reject(
            error instanceof Refusal
              ? new EdgeRefusal(errors[error.code].status, error.code, undefined, undefined)
              : (error as Error),
          );
        },
      );
    });
}

/** The two calls that an agent makes over plain HTTP. */
export function postOf({ edge, way, time, chance }: FrontPorts): Post {
  return (url, body, signal) =>
    untilAborted(signal, (resolve) => {
      time.after(chance.delayMs(2 * way.latencyMs), () => {
        if (way.upIsCut || way.downIsCut) return; // packets are dropped: the caller's own time-out speaks
        void edge.worker.post(url.pathname, body).then((answer) => {
          if (!way.downIsCut) resolve({ ...answer, retryAfter: undefined });
        });
      });
    });
}

/** Output that an agent hands over. */
export function putOf({ edge, way, time, chance }: FrontPorts): Put {
  return (url, headers, body, signal) =>
    untilAborted(signal, (resolve) => {
      time.after(chance.delayMs(2 * way.latencyMs), () => {
        if (way.upIsCut || way.downIsCut || !edge.front.isAlive) return; // the caller's own time-out speaks
        const answer = edge.archive.put(url.pathname, headers, body);
        time.after(chance.delayMs(way.latencyMs), () => {
          if (!way.downIsCut) resolve({ ...answer, retryAfter: undefined });
        });
      });
    });
}

/** What a request brings, unless its asker gives up before. Node holds a composed signal as long as somebody listens to it. */
function untilAborted<Answer>(signal: AbortSignal, ask: (answered: (answer: Answer) => void) => void): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    ask((answer) => {
      signal.removeEventListener('abort', abort);
      resolve(answer);
    });
  });
}
