/** What a client may open on its socket (SPEC rules K3, S1, S14): by its route's operations, its right to write, and limits. Pure. */
import type { ErrorCode } from '../../schema/errors.ts';
import { limits } from '../../schema/protocol/limits.ts';
import { StreamOpen } from '../../schema/protocol/streams.ts';
import { unprovenCapBytes } from './forward.ts';
import type { ClientLink, Purpose } from './links.ts';

export type OpenVerdict =
  | { ok: true; open: StreamOpen; purpose: Purpose }
  | { ok: false; code: ErrorCode; detail: string };

/** Judges the JSON of an OPEN. */
export function judgeOpen(client: ClientLink, value: unknown): OpenVerdict {
  const refuse = (code: ErrorCode, detail: string): OpenVerdict => ({ ok: false, code, detail });
  const parsed = StreamOpen.safeParse(value);
  if (!parsed.success) return refuse('tunnel_op_unknown', 'The OPEN has no shape that this control plane knows.');
  const open = parsed.data;
  const { ops, write, terminalId } = client.state.claim;
  if (!ops.includes(open.op)) return refuse('tunnel_op_unknown', `This address does not open ${open.op}.`);
  if (open.op === 'terminal' && open.terminalId !== terminalId)
    return refuse('terminal_not_found', 'This address is of another terminal.');
  if (!write && isWriting(open)) return refuse('access_denied', 'Your role may read here, not write.');
  if (client.flows.size >= limits.streamsPerSocket)
    return refuse('tunnel_stream_limit', `A socket carries at most ${limits.streamsPerSocket} streams.`);
  // Each stream brings credit of its own; a client that opens, reads nothing and opens again must not pile it up.
  if (client.out.unprovenBytes + (client.flows.size + 1) * limits.initialWindowBytes > unprovenCapBytes)
    return refuse('tunnel_stream_limit', 'Read what was sent before opening more.');
  return { ok: true, open, purpose: purposeOf(open) };
}

function isWriting(open: StreamOpen): boolean {
  return (
    open.op === 'put' ||
    open.op === 'execute' ||
    open.op === 'ssh' ||
    (open.op === 'channels' && open.writer !== undefined) ||
    open.op === 'connect' ||
    (open.op === 'terminal' && open.input !== undefined) ||
    (open.op === 'process' && (open.spawn !== undefined || open.input === true))
  );
}

const interactive = new Set<StreamOpen['op']>(['process', 'execute', 'channels', 'terminal']);

/** Interactive streams never ride the bulk socket, nor bulk the interactive one, unless it is asked for. */
function purposeOf(open: StreamOpen): Purpose {
  if (interactive.has(open.op)) return 'interactive';
  if (open.op === 'ssh') return open.bulk === true ? 'bulk' : 'interactive';
  return (open.op === 'logs' || open.op === 'lines' || open.op === 'echo') && open.interactive === true
    ? 'interactive'
    : 'bulk';
}
