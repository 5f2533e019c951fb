/**
 * The seam between the tunnel and those who act: three tables (order of an intent, operation of a call, operation of a
 * stream) typed by `schema/protocol`, so that a missing handler does not compile, and what each side gives the other.
 * The tunnel (`tunnel/`) knows nothing of Docker; handlers know nothing of sockets.
 */
import type { CallInput, CallOp, CallResult } from '../schema/protocol/calls.ts';
import type { AgentEvent } from '../schema/protocol/events.ts';
import type { Channel } from '../schema/protocol/frame.ts';
import type { Intent } from '../schema/protocol/intents.ts';
import type {
  HostInfo,
  InventoryAnswer,
  InventoryItem,
  Report,
  Slots,
  ToEdge,
  ToEdgeHello,
} from '../schema/protocol/messages.ts';
import type { AgentOpen, StreamOpen, StreamOpened } from '../schema/protocol/streams.ts';
import type { ErrorCode } from '../schema/errors.ts';
import type { Clock, Failpoints, Log, Random, Timers } from '../schema/ports.ts';
import type { AgentFailpoint } from '../schema/failpoints.ts';

/** An order's kind, and the intent that carries exactly it. */
export type OrderKind = Intent['order']['kind'];
export type IntentOf<Kind extends OrderKind> = Omit<Intent, 'order'> & {
  order: Extract<Intent['order'], { kind: Kind }>;
};

/**
 * Carries one journaled intent out. Intents of one session come one at a time in the order of `seq`; sessions run side
 * by side. After a crash an intent that had not resolved is handed in again, so a handler is idempotent. It records what
 * happened, failure included, as events before it resolves; a rejection is a fault of the agent, logged and tried again
 * with back-off. `superseded` aborts when a later order of the session (stop, remove, a higher generation) waits behind
 * this one: give up a pull or a wait, leave what exists to the later order.
 */
export type IntentHandler<Kind extends OrderKind> = (intent: IntentOf<Kind>, superseded: AbortSignal) => Promise<void>;

/**
 * Answers a call. A `Refusal` becomes its code at the caller, a full disk `agent_disk_full`; anything else is `internal`.
 * Must be repeatable.
 */
export type CallHandler<Op extends CallOp> = (input: CallInput<Op>, deadline: AbortSignal) => Promise<CallResult<Op>>;

/** Bytes of one channel of a stream. `bytes` belong to the reader. */
export interface ChannelBytes {
  channel: Channel;
  /** Bytes of the channel before these. */
  offset: number;
  bytes: Uint8Array;
  /** The sender sends no more on this channel; such an item has no bytes. */
  end: boolean;
}

/** One stream as its handler sees it. Everything throws or rejects with a `Refusal` once the stream is over. */
export interface AgentStream {
  /** Aborts when the stream is over for whatever cause (both ended, reset, socket lost); `reason` is a Refusal or 'ended'. */
  readonly closed: AbortSignal;
  /** Accepts the stream. Once, before the first write. */
  opened(info: StreamOpened): void;
  /** Sets the offset of the next byte written on `channel`: the start of a resumed output, or the far side of a gap. */
  seek(channel: Channel, offset: number): void;
  /**
   * Sends bytes under credit. Takes the buffer: do not change it afterwards. Resolves when less than 256 KiB of the
   * stream wait, so that a writer that awaits each call holds a bounded amount. Any length.
   */
  write(channel: Channel, bytes: Uint8Array): Promise<void>;
  /** As `write`, but resolves when every byte was taken out of the buffer, which the caller may then fill anew. */
  lend(channel: Channel, bytes: Uint8Array): Promise<void>;
  /** Sends one JSON object as one frame on the control channel. */
  writeControl(message: object): Promise<void>;
  /** What the other end sends. Asking for the next item grants credit for the last one: read only as fast as you can. */
  read(): AsyncIterable<ChannelBytes>;
  /** No more on this channel after what was written. */
  end(channel: Channel): void;
  /** Ends the stream at once, both ways. */
  reset(code: ErrorCode, detail?: string): void;
}

/** The envelope of the hub with the client's own OPEN of exactly one operation. */
export type OpenOf<Op extends StreamOpen['op']> = Omit<AgentOpen, 'open'> & { open: Extract<StreamOpen, { op: Op }> };

/**
 * Serves one stream and resolves when it is done with it: the stream is then ended on all channels. A `Refusal` thrown
 * becomes RESET with its code; anything else is logged and RESET `internal`.
 */
export type StreamHandler<Op extends StreamOpen['op']> = (open: OpenOf<Op>, stream: AgentStream) => Promise<void>;

/** Every operation has its handler, or this does not compile. */
export interface Handlers {
  intents: { [Kind in OrderKind]: IntentHandler<Kind> };
  calls: { [Op in CallOp]: CallHandler<Op> };
  streams: { [Op in StreamOpen['op']]: StreamHandler<Op> };
}

/** What the agent holds, asked by the tunnel for each hello, and told what of it must go. */
export interface Workload {
  capacity(): Promise<Slots>;
  host(): Promise<HostInfo>;
  /** Every container (or what is left of one) and every journaled placement that is not removed yet. */
  inventory(): Promise<InventoryItem[]>;
  images(): Promise<ToEdgeHello['images']>;
  /** The edge's answer to the inventory of this very hello: destroy these, keep all else. Idempotent. */
  reconcile(answer: InventoryAnswer): Promise<void>;
  /** Records anew how each session stands: the edge was put back and has forgotten what it was told. */
  retell(): Promise<void>;
  /** Sessions that may need an interactive socket at any moment; it stays open while there are some. */
  liveSessions(): number;
}

/** The two leases that an answered ping renews, on CLOCK_BOOTTIME. */
export interface Leases {
  /** True while `create` may touch the engine (60 s from the sending of the last answered ping). */
  startHeld(): boolean;
  /** Resolves when the start lease holds; rejects when `signal` aborts. Ask right before `docker create`. */
  whenStartHeld(signal: AbortSignal): Promise<void>;
  /** What is left of the run lease of `leaseMs` (10 min unless the session says otherwise), in ms; 0 when it is over. */
  runRemainingMs(leaseMs: number): number;
  /** Calls `task` at each renewal; the returned function ends that. */
  onRenew(task: () => void): () => void;
}

/** What is not durable and may be dropped. At most two a second per session pass. */
export type Progress = Omit<Extract<ToEdge, { type: 'progress' }>, 'type'>;

/** What the tunnel gives to handlers and loops. */
export interface Services {
  clock: Clock;
  random: Random;
  timers: Timers;
  log: Log;
  failpoints: Failpoints<AgentFailpoint>;
  leases: Leases;
  /** Resolves when the event is fsynced in the journal; it is then sent until the ledger has it. */
  recordEvent(event: AgentEvent): Promise<void>;
  progress(progress: Progress): void;
  /** Use and health as they are now; call it as often as you measure. The tunnel decides when it travels (M10). */
  report(report: Report): void;
  /** The images of the host changed: the edge is told. */
  imagesChanged(): void;
}
