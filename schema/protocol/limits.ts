/** Every limit of the tunnel in one place. Units in the names; sources: `docs/architecture.md`. */
export const limits = {
  /** Version of the protocol that this code speaks, and the oldest it still accepts. */
  version: 1,
  minVersion: 1,
  /** How frames are laid out: the first byte of each. Another one would need another subprotocol, since a hello is in frames. */
  frameVersion: 1,
  headerBytes: 16,
  /** Payload of one frame. */
  payloadBytes: 64 * 1024,
  /** One WebSocket message of several frames: the per-message cost in a hub is the bottleneck. */
  messageBytes: 1024 * 1024,
  /** One JSON message, joined from frames with MORE. */
  jsonBytes: 1024 * 1024,
  jsonDepth: 32,
  /** Credit of a new stream, per direction. */
  initialWindowBytes: 256 * 1024,
  /** What a receiver may grow a bulk stream's window to. */
  maxWindowBytes: 16 * 1024 * 1024,
  /** Bytes to one socket between two marks. */
  markEveryBytes: 256 * 1024,
  /** Unproven bytes to a socket: at least, and at most. */
  minAllowanceBytes: 2 * 1024 * 1024,
  maxAllowanceBytes: 16 * 1024 * 1024,
  streamsPerSocket: 64,
  /** Concurrent streams of one agent socket. */
  streamsPerAgent: 4096,
  /** Of SSH: connections to one session, channels of one connection, and how long a connection may take to sign in. */
  sshConnectionsPerSession: 64,
  sshChannelsPerConnection: 64,
  sshLoginMs: 60_000,
  /** What one connection may have listened to in the session. */
  sshListenersPerConnection: 16,
  /** Public keys that a user may have uploaded; each SSH connection is told of all of them. */
  sshKeysPerUser: 20,
  /**
   * Bytes that came for the channels of one connection and that no process has taken: beyond, it is not read once the
   * connections of its session hold as much each.
   */
  sshUnreadBytes: 4 * 1024 * 1024,
  /** Connections to ports of one session at once. */
  portConnectionsPerSession: 256,
  /** Of terminals: running ones of a session, clients at one, of them such as only look, and names of writers that one remembers. */
  terminalsPerSession: 16,
  terminalViewers: 64,
  terminalLookers: 48,
  terminalWriters: 256,
  pingEveryMs: 10_000,
  /** A socket silent this long is dead, at either end. */
  silentMs: 30_000,
  /** An intent is sent only on a socket whose last ping is younger than this. */
  intentPingMs: 25_000,
  startLeaseMs: 60_000,
  runLeaseMs: 600_000,
  bulkIdleMs: 60_000,
  /** What an agent's bulk sockets send together while something moved on an interactive one within so many ms. */
  giveWayBytesPerSecond: 64 * 1024 * 1024,
  giveWayMs: 1_000,
  rebindMs: 10_000,
  reconnectBaseMs: 500,
  reconnectCapMs: 30_000,
  /** A socket that lived this long was a good one: back-off starts anew. */
  stableMs: 60_000,
  /** The cap while nobody listens at the edge's address, for so long after a socket was lost. */
  knockCapMs: 3_000,
  /** In a large fleet the longest wait before the first dial after a loss that was no reset: it may be this agent's way alone. */
  firstSpreadCapMs: 10_000,
  knockForMs: 60_000,
  callDeadlineMs: 15_000,
  /** Unacknowledged events that an agent keeps in flight. */
  eventsInFlight: 256,
  /** What an agent may say on control sockets: frames at once, and a second; a larger one counts once more for each so many bytes. */
  talkBurstFrames: 2_000,
  talkFramesPerSecond: 1_000,
  talkFrameBytes: 4_096,
  /** ... and on data sockets of frames that move nothing: all but bytes of a stream, grants of at least so much, and marks of ours. */
  idleBurstFrames: 20_000,
  idleFramesPerSecond: 4_000,
  idleGrantBytes: 4_096,
  /** An agent that said more is not heard for so long; twice as long each time until it has been good for a while. */
  talkRestMs: 10_000,
  talkLongestRestMs: 320_000,
  talkForgivenMs: 600_000,
  /** Before a byte passes on a socket, its last access check must be younger than this. */
  accessCheckMs: 3_000,
} as const;

export const tunnelProtocol = 'causeway.tunnel.v1';
/** Of the 101 to a control dial: over how long a time all agents should come back, ms (SPEC M12). */
export const spreadHeader = 'x-causeway-spread-ms';
/** Of the same, and of the agent's next dial (SPEC K1). */
export const badgeHeader = 'x-causeway-badge';
export const clientProtocol = 'causeway.client.v1';

/** Close codes of tunnel and client sockets. */
export const closeCodes = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  policy: 1008,
  /** Never sent: the other end has not said that it closes (RFC 6455, 7.1.5). */
  abnormal: 1006,
  tooBig: 1009,
  revoked: 4401,
  refused: 4403,
  gone: 4404,
  moved: 4409,
  unreachable: 4503,
} as const;
