/**
 * WebSockets between hosts and hubs, over TCP: in order, late, held back while the way is cut in that direction, lost with
 * their connection. The hub's end outlives its object's memory; the runtime answers pings for it.
 */
import type { Chance } from '../chance.ts';
import type { VirtualTime } from '../clock.ts';
import type { Sometimes } from '../sometimes.ts';
import type { Weather } from '../weather.ts';

/** The way between one host and the edge. */
export class Way {
  /** Nothing passes in this direction; what was sent waits (TCP sends it again when the way heals). */
  upIsCut = false;
  downIsCut = false;
  latencyMs = 5;
  readonly links = new Set<Link>();

  /** The way is whole again: what waited goes on. */
  heal(): void {
    this.upIsCut = false;
    this.downIsCut = false;
    for (const link of this.links) link.flush();
  }

  /** The weather is good from now on, for what is under way too. */
  calm(): void {
    this.latencyMs = 5;
    for (const link of this.links) link.hurry();
    this.heal();
  }
}

type Item =
  | { kind: 'binary'; bytes: Uint8Array<ArrayBuffer>; heldSince?: number }
  | { kind: 'text'; text: string }
  | { kind: 'close'; code: number; reason: string };

export interface AgentEnd {
  message(bytes: Uint8Array): void;
  text(text: string): void;
  closed(code: number, reason: string): void;
}

/** The object behind the hub's end; it may have to be woken. */
export interface HubEnd {
  message(link: Link, message: ArrayBuffer): void;
  closed(link: Link, code: number): void;
}

export interface LinkPorts {
  time: VirtualTime;
  chance: Chance;
  weather: Weather;
  sometimes: Sometimes;
  nowMs(): number;
}

const closeMs = 5_000;

export class Link {
  readonly way: Way;
  readonly #ports: LinkPorts;
  readonly #agent: AgentEnd;
  readonly #hub: HubEnd;
  /** Serialized state of the hub's end: all of it that survives hibernation. */
  attachment: unknown;
  lastPongMs: number | undefined;
  /** When anybody said something in it, beside pings. */
  spokeMs = Number.NEGATIVE_INFINITY;
  #agentOpen = true;
  #hubOpen = true;
  #hubClosing = false;
  #up: Item[] = [];
  #down: Item[] = [];
  #upAtMs = 0;
  #downAtMs = 0;
  /** Wakes of the hub so far, and bytes that it sent since the last and that the other end has not taken. */
  #wakes = 0;
  #heldBytes = 0;
  #isForgotten = false;

  constructor(way: Way, ports: LinkPorts, agent: AgentEnd, hub: HubEnd) {
    this.way = way;
    this.#ports = ports;
    this.#agent = agent;
    this.#hub = hub;
    way.links.add(this);
  }

  get isHubOpen(): boolean {
    return this.#hubOpen;
  }

  // ---- the agent's end ----

  agentSend(bytes: Uint8Array, sent?: () => void): void {
    if (this.#agentOpen) this.#push('up', { kind: 'binary', bytes: new Uint8Array(bytes) });
    if (sent) this.#ports.time.after(0, sent);
  }
  agentText(text: string): void {
    if (this.#agentOpen) this.#push('up', { kind: 'text', text });
  }
  agentClose(code: number, reason: string): void {
    if (!this.#agentOpen) return;
    this.#push('up', { kind: 'close', code, reason });
    this.#ports.time.after(closeMs, () => this.agentDestroy());
  }
  /** Ends without a word of the protocol; the other side sees a reset if it can be reached. */
  agentDestroy(): void {
    if (!this.#agentOpen) return;
    this.#agentOpen = false;
    this.#lost(this.#down);
    this.#down = [];
    this.#push('up', { kind: 'close', code: 1006, reason: '' });
    this.#ports.time.after(0, () => this.#agent.closed(1006, ''));
  }
  /** The process is gone, its kernel says so. */
  agentDies(): void {
    if (!this.#agentOpen) return;
    this.#agentOpen = false;
    this.#lost(this.#down);
    this.#down = [];
    this.#push('up', { kind: 'close', code: 1006, reason: '' });
  }
  /** The host is gone; nobody says anything. */
  hostVanishes(): void {
    this.#agentOpen = false;
    this.#lost(this.#down);
    this.#down = [];
    this.#up = [];
    if (this.#hubOpen) this.#ports.sometimes.reached('a connection was half open');
  }

  // ---- the hub's end ----

  hubSend(bytes: ArrayBufferView<ArrayBuffer> | ArrayBuffer): void {
    if (!this.#hubOpen || this.#hubClosing) return;
    const view =
      bytes instanceof ArrayBuffer
        ? new Uint8Array(bytes)
        : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#heldBytes += view.byteLength;
    this.#push('down', { kind: 'binary', bytes: view.slice(), heldSince: this.#wakes });
  }
  /** The hub forgets what it has sent. */
  hubWakes(): void {
    this.#wakes += 1;
    this.#heldBytes = 0;
  }
  /** What the hub has sent since it woke, and nobody has taken. */
  get heldBytes(): number {
    return this.#hubOpen && !this.#hubClosing ? this.#heldBytes : 0;
  }
  hubClose(code: number, reason: string): void {
    if (!this.#hubOpen || this.#hubClosing) return;
    this.#hubClosing = true;
    this.#push('down', { kind: 'close', code, reason });
  }
  /** Everything at the edge dies: the kernel resets the connection. */
  hubDies(): void {
    if (!this.#hubOpen) return;
    this.#hubOpen = false;
    this.#lost(this.#up);
    this.#up = [];
    this.#push('down', { kind: 'close', code: 1006, reason: '' });
  }

  // ---- between them ----

  /** Gives everything that was held back a new moment. */
  flush(): void {
    for (let waiting = this.#up.length; waiting > 0; waiting -= 1) this.#move('up');
    for (let waiting = this.#down.length; waiting > 0; waiting -= 1) this.#move('down');
  }

  /** What is under way need not wait for the moment that it was given. */
  hurry(): void {
    this.#upAtMs = 0;
    this.#downAtMs = 0;
  }

  /** The connection is cut in the middle: both ends hear of it, if they can be reached then. */
  cut(): void {
    this.#lost(this.#up);
    this.#lost(this.#down);
    this.#up = [];
    this.#down = [];
    this.#push('up', { kind: 'close', code: 1006, reason: '' });
    this.#push('down', { kind: 'close', code: 1006, reason: '' });
  }

  /** Nothing passes any more, either way, and neither end is told: a NAT that started anew knows no connection. */
  forget(): void {
    this.#lost(this.#up);
    this.#lost(this.#down);
    this.#up = [];
    this.#down = [];
    this.#isForgotten = true;
    this.#ports.sometimes.reached('a way forgot a connection of an agent');
  }

  #lost(items: readonly Item[]): void {
    if (items.some(({ kind }) => kind === 'binary'))
      this.#ports.sometimes.reached('a message was lost with its connection');
  }

  #push(direction: 'up' | 'down', item: Item): void {
    if (this.#isForgotten) return;
    const { chance, weather, sometimes } = this.#ports;
    const queue = direction === 'up' ? this.#up : this.#down;
    queue.push(item);
    if (item.kind === 'binary') this.spokeMs = this.#ports.time.nowMs;
    if (item.kind === 'binary' && chance.isTrue(weather.duplicate)) {
      sometimes.reached('a message was duplicated');
      queue.push({ kind: 'binary', bytes: item.bytes.slice() });
    }
    const before = queue.at(-2);
    if (item.kind === 'binary' && before?.kind === 'binary' && chance.isTrue(weather.reorder)) {
      sometimes.reached('a message was reordered');
      queue.splice(-2, 2, item, before);
    }
    this.#move(direction);
  }

  #isCut(direction: 'up' | 'down'): boolean {
    return direction === 'up' ? this.way.upIsCut : this.way.downIsCut;
  }

  /** Each item has its own moment, in order. */
  #move(direction: 'up' | 'down'): void {
    const { time, chance } = this.#ports;
    if (this.#isCut(direction)) return;
    const arrivesMs = time.nowMs + chance.delayMs(this.way.latencyMs);
    const atMs = Math.max(arrivesMs, direction === 'up' ? this.#upAtMs : this.#downAtMs);
    if (direction === 'up') this.#upAtMs = atMs;
    else this.#downAtMs = atMs;
    time.at(atMs, () => this.#deliver(direction));
  }

  #deliver(direction: 'up' | 'down'): void {
    if (this.#isCut(direction)) return;
    const item = (direction === 'up' ? this.#up : this.#down).shift();
    if (item === undefined) return;
    if (direction === 'up') this.#deliverUp(item);
    else this.#deliverDown(item);
  }

  #deliverUp(item: Item): void {
    if (!this.#hubOpen) {
      if (item.kind === 'close') this.way.links.delete(this);
      return;
    }
    if (item.kind === 'text') {
      // The runtime answers by itself; the object sleeps on.
      if (item.text !== 'ping' || this.#hubClosing) return;
      this.lastPongMs = this.#ports.nowMs();
      this.#push('down', { kind: 'text', text: 'pong' });
    } else if (item.kind === 'binary') this.#hub.message(this, item.bytes.buffer);
    else {
      this.#hubOpen = false;
      this.way.links.delete(this);
      if (!this.#hubClosing && item.code !== 1006) this.#push('down', item);
      this.#hub.closed(this, item.code);
    }
  }

  #deliverDown(item: Item): void {
    if (!this.#agentOpen) return;
    if (item.kind === 'text') this.#agent.text(item.text);
    else if (item.kind === 'binary') {
      if (item.heldSince === this.#wakes) this.#heldBytes -= item.bytes.byteLength;
      this.#agent.message(item.bytes);
    } else {
      this.#agentOpen = false;
      if (item.code !== 1006) this.#push('up', item);
      else this.way.links.delete(this);
      this.#agent.closed(item.code, item.reason);
    }
  }
}
