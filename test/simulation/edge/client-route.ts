/** What a client dials: the routes of the Worker that open a socket to a session. */
/** What a client's socket may be for. */
export type ClientOp = 'process' | 'logs' | 'put' | 'execute' | 'channels' | 'terminal';

/** What a socket is for, and what it may do. */
export interface ClientRoute {
  op: ClientOp;
  /** The only terminal that it opens. */
  terminalId?: string;
  /** Its link only looks. */
  isReadOnly?: boolean;
}
