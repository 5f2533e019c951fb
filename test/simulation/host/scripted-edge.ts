/**
 * A scripted edge in virtual time, for tests of a simulated host alone: challenges are answered, each control socket is
 * welcomed with a higher epoch, pings are answered, intents are sent until they are acknowledged, events are kept once
 * and acknowledged. It decides nothing: the edge of the simulation is the production one.
 */
import type { Post } from '../../../agent-daemon/tunnel/edge-api.ts';
import type { Dial, Socket, SocketEvents } from '../../../agent-daemon/tunnel/socket.ts';
import { decodeFrames, encodeFrames, frameTypes } from '../../../schema/protocol/frame.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { Intent } from '../../../schema/protocol/intents.ts';
import { JsonJoiner, jsonFrames } from '../../../schema/protocol/json.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { type ToAgent, ToEdge, type ToEdgeHello } from '../../../schema/protocol/messages.ts';
import type { VirtualTime } from '../clock.ts';

const passMs = 5;

export class ScriptedEdge {
  readonly events: AgentEvent[] = [];
  readonly hellos: ToEdgeHello[] = [];
  isDown = false;
  readonly #time: VirtualTime;
  readonly #intents: Intent[] = [];
  readonly #acked = new Map<string, number>();
  #epoch = 0;
  #hub: ((message: ToAgent) => void) | undefined;
  #cut: (() => void) | undefined;

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  /** Sends an order now and at each attach, until it is acknowledged. */
  order(intent: Intent): void {
    this.#intents.push(intent);
    this.#sendIntents([intent]);
  }

  /** The socket of now breaks, without a word of either end. */
  cut(): void {
    this.#cut?.();
  }

  kinds(sessionId: string): string[] {
    return this.events.filter((event) => event.sessionId === sessionId).map((event) => event.body.kind);
  }

  readonly post: Post = async () => {
    await this.#time.sleep(passMs);
    if (this.isDown) throw new Error('connect ECONNREFUSED');
    const text = JSON.stringify({
      nonce: `nonce-${this.hellos.length}`,
      expiresAtMs: Math.floor(this.#time.nowMs) + 30_000,
    });
    return { status: 200, retryAfter: undefined, text };
  };

  readonly dial: Dial = async (_, listen) => {
    await this.#time.sleep(passMs);
    if (this.isDown) throw new Error('connect ECONNREFUSED');
    let isOpen = true;
    const toAgent = (deliver: (events: SocketEvents) => void): void =>
      void this.#time.after(passMs, () => isOpen && deliver(events));
    const close = (code: number, reason: string): void => {
      if (!isOpen) return;
      isOpen = false;
      this.#time.after(passMs, () => events.closed(code, reason));
    };
    const joiner = new JsonJoiner();
    const socket: Socket = {
      send: (bytes, sent) => {
        const copy = Uint8Array.from(bytes);
        this.#time.after(passMs, () => {
          sent?.();
          if (!isOpen) return;
          for (const frame of decodeFrames(copy)) {
            const joined = joiner.join(frame);
            if (joined !== undefined) this.#take(ToEdge.parse(joined.value), send);
          }
        });
      },
      sendText: () => toAgent((listener) => listener.text('pong')),
      bufferedBytes: () => 0,
      close,
      destroy: () => close(1006, ''),
    };
    const send = (message: ToAgent): void => {
      const bytes = encodeFrames(jsonFrames(frameTypes.message, 0, message));
      toAgent((listener) => listener.message(bytes));
    };
    const events: SocketEvents = listen(socket);
    this.#cut = () => close(1006, 'cut');
    return socket;
  };

  #take(message: ToEdge, send: (message: ToAgent) => void): void {
    if (message.type === 'hello') return this.#welcome(message, send);
    if (message.type === 'intentAck') {
      for (const intentId of message.intentIds) this.#forget(intentId);
      return;
    }
    if (message.type !== 'events') return;
    const { journalId } = message;
    for (const { index, event } of message.events) {
      if (index <= (this.#acked.get(journalId) ?? 0)) continue;
      this.#acked.set(journalId, index);
      this.events.push(event);
      this.#time.trace(`event ${event.sessionId} g${event.generation} ${JSON.stringify(event.body)}`);
    }
    send({ type: 'eventAck', journalId, index: this.#acked.get(journalId) ?? 0 });
  }

  #welcome(hello: ToEdgeHello, send: (message: ToAgent) => void): void {
    this.hellos.push(hello);
    this.#epoch++;
    this.#hub = send;
    this.#time.trace(`hello ${hello.counter} ${JSON.stringify(hello.inventory)}`);
    send({
      type: 'welcome',
      version: limits.version,
      epoch: this.#epoch,
      dataTicket: 'ticket',
      dataHub: '0',
      ackedIndex: this.#acked.get(hello.journalId) ?? 0,
      answer: { destroy: [] },
    });
    this.#sendIntents(this.#intents);
  }

  #sendIntents(intents: readonly Intent[]): void {
    if (intents.length > 0) this.#hub?.({ type: 'intents', epoch: this.#epoch, intents: [...intents] });
  }

  #forget(intentId: string): void {
    const at = this.#intents.findIndex((intent) => intent.intentId === intentId);
    if (at >= 0) this.#intents.splice(at, 1);
  }
}
