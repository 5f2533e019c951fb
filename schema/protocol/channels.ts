/**
 * The operation `channels` of the tunnel: the messages of a Jupyter kernel, both ways (SPEC rule S17). Its stdout channel
 * carries the log of one start of the kernel at that log's own offsets, input what this writer says, at this writer's
 * offsets. Both are records: a u32 (big endian), then that many bytes of a message in Jupyter's WebSocket framing
 * (`v1.kernel.websocket.jupyter.org`). What the bridge itself says has the channel name `causeway` and a `BridgeNote` as its
 * content (agent-daemon/kernels/SPEC.md, rules J1 on).
 */
import { z } from 'zod';
import { KernelId, KernelState } from '../api/kernel-parts.ts';
import { OutputGap } from './output-gap.ts';

const count = z.int().nonnegative();

/** Of one record's message at most; a kernel's larger one comes as a note, a client's is refused (`kernel_message_too_large`). */
export const maxMessageBytes = 32 * 1024 * 1024;
/** Name of the channel on which the bridge speaks. */
export const bridgeChannel = 'causeway';

/** Writer of the requests of runs (`execute.ts`): it is the agent's own. */
export const runsWriter = 'causeway-runs';

export const WriterId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, 'must be 1 to 64 letters, digits, - and _, and not begin with these');

export const channelsOpen = z.strictObject({
  op: z.literal('channels'),
  kernelId: KernelId,
  /** Go on at this place of the kernel's log, which is the begin of a record; absent: only what comes from now on. */
  after: z.strictObject({ starts: count, offset: count }).optional(),
  /**
   * Who writes: of each writer every byte is taken once, over restarts of the kernel too. OPENED.inputOffset says from where
   * this writer sends again. A later stream of the same writer ends the earlier one. Absent: only watches.
   */
  writer: WriterId.refine((writer) => writer !== runsWriter, 'must not be that of runs').optional(),
});

/** Agent to client on the control channel. */
export const ChannelsEvent = z.discriminatedUnion('kind', [
  /** First: the output that follows begins here, in the log of this start. */
  z.strictObject({ kind: z.literal('begun'), starts: count, from: count }),
  /** Of the stream `stdout`. What comes behind it begins with a record; of one that was cut by it nothing more comes. */
  OutputGap,
  /** This writer's input before `offset` is kept, and is given to the kernel once. Always the end of a record. */
  z.strictObject({ kind: z.literal('taken'), offset: count }),
  /**
   * At first, and when that changes, as early as it is known: not in step with the output. Whether it answers: while it is
   * busy it is `idle` here, since its own messages tell.
   */
  z.strictObject({ kind: z.literal('state'), state: KernelState }),
  /**
   * This start of the kernel is over, and all of its output was sent; the stream ends. `end`: where its log ends; whoever
   * does not have all before it lost it on the way, and asks for it again. `restarts`: another start follows.
   */
  z.strictObject({
    kind: z.literal('ended'),
    end: count,
    reason: z.string().max(32),
    exitCode: z.int().min(0).max(255).optional(),
    signal: z.string().max(16).optional(),
    restarts: z.boolean(),
  }),
]);
export type ChannelsEvent = z.infer<typeof ChannelsEvent>;

/** What a record of the channel `causeway` says: the content of its message. */
export const BridgeNote = z.discriminatedUnion('kind', [
  /** The kernel answers: from now on nothing it publishes is missed. `inAdvance`: it had been started before it was asked for. */
  z.strictObject({ kind: z.literal('ready'), inAdvance: z.literal(true).optional() }),
  /** The kernel said more than anybody took away: messages that are missing here. */
  z.strictObject({ kind: z.literal('lost'), messages: count, bytes: count }),
  /** In place of one message that is larger than a record may be. */
  z.strictObject({
    kind: z.literal('too-large'),
    channel: z.string().max(16),
    /** `msg_type` of it; empty if that could not be read. */
    type: z.string().max(64),
    bytes: count,
  }),
  /** Messages that this kernel's key did not sign, or of no known form: dropped. */
  z.strictObject({ kind: z.literal('forged'), messages: count }),
  /** What was given to it and is no message for shell, control or stdin. */
  z.strictObject({ kind: z.literal('refused'), bytes: count }),
  /** The last record: the kernel's process ended. */
  z.strictObject({ kind: z.literal('ended'), exitCode: count.optional(), signal: count.optional() }),
]);
export type BridgeNote = z.infer<typeof BridgeNote>;

/** What the bridge beside the kernel says about its log, for people; undefined: nothing that they would miss. */
export function wordsOfNote(note: BridgeNote): string | undefined {
  switch (note.kind) {
    case 'lost':
      return `${note.messages} messages (${note.bytes} bytes) of the kernel are missing here`;
    case 'too-large':
      return `a message of ${note.bytes} bytes (${note.type || note.channel}) is too large to be carried; write it to a file`;
    case 'ready':
    case 'forged':
    case 'refused':
    case 'ended':
      return undefined;
  }
}
