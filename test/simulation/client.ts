/** A client's socket to a session, with the production's end of streams on it: of readers, of uploads and of code. */
import { Refusal } from '../../schema/errors.ts';
import { Endpoint } from '../../schema/protocol/endpoint.ts';
import { FrameError } from '../../schema/protocol/frame.ts';
import { closeCodes, limits } from '../../schema/protocol/limits.ts';
import { StreamOver } from '../../schema/protocol/stream.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import type { ClientOp, ClientRoute } from './edge/client-route.ts';
import type { Link, Way } from './edge/links.ts';

export interface ClientPorts {
  time: VirtualTime;
  edge: SimEdge;
  way: Way;
  /** Text of the token. */
  token: string;
  /** It is told that its token is out. */
  toldOut: () => void;
}

export interface Client {
  endpoint: Endpoint;
  generation: number;
  close: () => void;
}

const dialMs = 15_000;
const pingMs = 10_000;

/** @throws StreamOver when there is nowhere to go */
export async function connect(sessionId: string, asked: ClientOp | ClientRoute, ports: ClientPorts): Promise<Client> {
  const route: ClientRoute = typeof asked === 'string' ? { op: asked } : asked;
  const { time, edge, way, token, toldOut } = ports;
  let endpoint: Endpoint | undefined;
  let link: Link | undefined;
  const end = {
    message: (bytes: Uint8Array) => {
      try {
        endpoint?.receive(bytes);
      } catch (error) {
        // Messages that came twice or in another order: a client leaves, as the rules want it, and comes again.
        if (!(error instanceof FrameError)) throw error;
        link?.agentClose(1002, error.rule);
        endpoint?.close('tunnel_closed', error.message);
      }
    },
    text: () => undefined,
    closed: (code: number) => {
      if (code === closeCodes.revoked) toldOut();
      endpoint?.close('tunnel_closed', `closed with ${code}`);
    },
  };
  const opening = edge.worker.openClient(way, { sessionId, token, ...route }, end).catch((error: unknown) => {
    if (error instanceof Refusal && error.code === 'auth_revoked') toldOut();
    return undefined;
  });
  const opened = await within(time, dialMs, opening);
  if (opened === undefined) {
    // Nobody waits for it any more.
    void opening.then((late) => late?.link.agentClose(1000, 'too late'));
    throw new StreamOver({ code: 'agent_unreachable' });
  }
  const here = opened.link;
  link = here;
  const made = new Endpoint(
    {
      send: (message, sent) => here.agentSend(message, sent),
      soon: (task) => queueMicrotask(task),
      nowMs: () => time.nowMs,
    },
    { maxWindowBytes: limits.maxWindowBytes },
  );
  endpoint = made;
  const stopPings = setPings(time, here);
  const close = (): void => {
    stopPings();
    here.agentClose(1000, 'done');
    made.close('tunnel_closed');
  };
  return { endpoint: made, generation: opened.generation, close };
}

function setPings(time: VirtualTime, link: Link): () => void {
  let cancel: () => void = () => undefined;
  const ping = (): void => {
    link.agentText('ping');
    cancel = time.after(pingMs, ping);
  };
  ping();
  return () => cancel();
}

/** The answer, or undefined when there is none in time. */
export function within<Answer>(time: VirtualTime, ms: number, asked: Promise<Answer>): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const cancel = time.after(ms, () => resolve(undefined));
    const settle = (answer: Answer | undefined) => {
      cancel();
      resolve(answer);
    };
    asked.then(settle, () => settle(undefined));
  });
}
