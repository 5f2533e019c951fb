/** What of a tunnel passes by itself: a bridge opens its stream again, and its client notices nothing. */
import type { ErrorCode } from '../../../schema/errors.ts';

export const heals: ReadonlySet<ErrorCode> = new Set([
  'agent_unreachable',
  'agent_replaced',
  'agent_busy',
  'agent_engine_unavailable',
  'tunnel_closed',
  'tunnel_deadline',
  'tunnel_stream_limit',
  'session_not_running',
  'session_generation_stale',
  'edge_overloaded',
  'deploy_overlap',
  'terminal_screen_lost',
]);
