/**
 * Streams: what a client may OPEN on its socket, and what the hub makes of it for the agent. SPEC rules S1-S19.
 * Operations and their use of channels:
 *
 *   process  spawn or attach to a process: input = stdin, stdout, stderr, control = ProcessControl / ProcessEvent
 *   logs     the kept output of a process: stdout, stderr, control = ProcessEvent (gap, exit, end of what is kept)
 *   channels the messages of a Jupyter kernel: input -> stdout, control = ChannelsEvent
 *   lines    the same line by line, searched: stdout = LineItem, one JSON object a line
 *   execute  a run of a kernel: stdout, stderr = its log, control = ExecuteControl / ExecuteEvent
 *   terminal one client at a terminal: input = what it types, stdout = output, stderr = screens, control = TerminalControl /
 *            TerminalEvent
 *   get      a tar stream of a path below /home/work: stdout
 *   put      a tar stream into a path below /home/work: input; OPENED tells the offset to continue from
 *   ssh      a connection to the session's SSH server, the raw bytes: input -> stdout
 *   connect  a connection to a port of the session, the raw bytes: input -> stdout
 *   echo     sends back what comes (measurement): input -> stdout
 */
import { z } from 'zod';
import { Argument, EnvName } from '../api/session-parts.ts';
import { idPattern } from '../ids.ts';
import { channelsOpen } from './channels.ts';
import { executeOpen } from './execute.ts';
import { limits } from './limits.ts';
import { linesOpen } from './lines.ts';
import { OutputGap } from './output-gap.ts';
import { terminalOpen } from './terminal.ts';

const count = z.int().nonnegative();
const processId = z.union([z.literal('main'), z.string().regex(idPattern('process'))]);
const window = z.strictObject({ rows: count.max(65_535), columns: count.max(65_535) });
const after = z.strictObject({ stdout: count, stderr: count });
/** A path relative to /home/work; the agent checks each component. */
const homePath = z.string().max(4096);

/** A public key of SSH of the kind that is made for a connection: `ssh-ed25519`, a space, and 51 bytes in base64. */
export const SshPublicKey = z.string().regex(/^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}$/);

/** A public key that a user uploaded, as it may sign in now: type, a space, base64. */
const UploadedKey = z.strictObject({
  publicKey: z
    .string()
    .max(4096)
    .regex(
      /^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) [A-Za-z0-9+/]+={0,2}$/,
    ),
  /** From OPEN on: then a connection that it signed in on ends. Absent: while the stream lasts. */
  validForMs: count.optional(),
});
export type UploadedKey = z.infer<typeof UploadedKey>;

export const ProcessSpawn = z.strictObject({
  argv: z.array(Argument).min(1).max(1024),
  env: z.record(EnvName, Argument.max(32_768)).optional(),
  cwd: Argument.max(4096).optional(),
  tty: window.optional(),
  stdin: z.boolean().optional(),
});
export type ProcessSpawn = z.infer<typeof ProcessSpawn>;

export const StreamOpen = z.discriminatedUnion('op', [
  z.strictObject({
    op: z.literal('process'),
    /** Chosen by the client; the same id never starts twice, so a cut can not double an exec. */
    processId,
    spawn: ProcessSpawn.optional(),
    /** Continue after these offsets. */
    after: after.optional(),
    /** Take input from this client; false only watches. */
    input: z.boolean().optional(),
  }),
  z.strictObject({
    op: z.literal('logs'),
    processId,
    streams: z.enum(['stdout', 'stderr', 'both']),
    after: after.optional(),
    /** Start this many lines before the end instead of at `after`. */
    tailLines: count.max(1_000_000).optional(),
    follow: z.boolean(),
    /** Ride the interactive socket: a person watches. */
    interactive: z.boolean().optional(),
  }),
  linesOpen,
  executeOpen,
  channelsOpen,
  terminalOpen,
  z.strictObject({ op: z.literal('get'), path: homePath }),
  z.strictObject({
    op: z.literal('put'),
    path: homePath,
    uploadId: z.string().regex(/^[A-Za-z0-9_-]{8,64}$/),
    offset: count,
    last: z.boolean(),
  }),
  z.strictObject({
    op: z.literal('ssh'),
    /**
     * The key that may sign in on this stream, and on no other, beside those that the user uploaded. Absent: those alone.
     * Who opens it was judged by the edge.
     */
    publicKey: SshPublicKey.optional(),
    /** Rides the bulk socket: files go by it, and nobody types. Of the hub alone; the agent is not told. */
    bulk: z.boolean().optional(),
  }),
  /** A connection from within the session's container to its own loopback. */
  z.strictObject({ op: z.literal('connect'), port: z.int().min(1).max(65_535) }),
  z.strictObject({ op: z.literal('echo'), interactive: z.boolean().optional() }),
]);
export type StreamOpen = z.infer<typeof StreamOpen>;

/** What the hub puts around a client's OPEN for the agent. */
export const AgentOpen = z.strictObject({
  sessionId: z.string().regex(idPattern('session')),
  generation: count,
  actorId: z.string().max(64),
  open: StreamOpen,
  /** Of `ssh`, when there are some: keys of the actor that may sign in too. */
  uploadedKeys: z.array(UploadedKey).max(limits.sshKeysPerUser).optional(),
});
export type AgentOpen = z.infer<typeof AgentOpen>;

/** The agent's OPENED. */
export const StreamOpened = z.strictObject({
  /** Offset from which the sender continues on the input channel. */
  inputOffset: count.optional(),
  /** First offsets, from those that were asked for on, of which the byte is kept. */
  keptFrom: after.optional(),
  /** Size of what follows, when known. */
  sizeBytes: count.optional(),
  /** The key by which the SSH server of this stream is known. */
  hostKey: SshPublicKey.optional(),
});
export type StreamOpened = z.infer<typeof StreamOpened>;

/** Client to agent on the control channel of `process`; one JSON object a DATA frame. */
export const ProcessControl = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('resize'), rows: count.max(65_535), columns: count.max(65_535) }),
  z.strictObject({
    kind: z.literal('signal'),
    signal: z.enum(['INT', 'TERM', 'HUP', 'QUIT', 'KILL', 'USR1', 'USR2', 'STOP', 'CONT']),
  }),
]);
export type ProcessControl = z.infer<typeof ProcessControl>;

/** Agent to client on the control channel of `process` and `logs`; one JSON object a DATA frame. */
export const ProcessEvent = z.discriminatedUnion('kind', [
  OutputGap,
  z.strictObject({
    kind: z.literal('exit'),
    exitCode: z.int().min(0).max(255).optional(),
    signal: z.string().max(16).optional(),
    reason: z.string().max(32),
    /** Where the output ends, of each stream that is sent: a client that has less goes on from what it has. */
    ends: z.strictObject({ stdout: count.optional(), stderr: count.optional() }),
  }),
  /** The process has all of its input, and its end: the client may leave. */
  z.strictObject({ kind: z.literal('inputEnded'), offset: count }),
  /** Of object storage only: what came behind this was not handed over, and its machine is out of reach. */
  z.strictObject({ kind: z.literal('missing'), after }),
]);
export type ProcessEvent = z.infer<typeof ProcessEvent>;
