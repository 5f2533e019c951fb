/**
 * Every error a caller can see: `<domain>_<operation>_<detail>` -> HTTP status and title. The wire form is always
 * RFC 9457 `application/problem+json` with `code`; the same code travels through the tunnel. Exhaustive: an unknown code
 * does not compile. Titles say what is wrong; `detail` says what happened here and what to do.
 */
export const errors = {
  // the corridor
  request_body_invalid: { status: 400, title: 'The request body is not valid' },
  request_body_malformed: { status: 400, title: 'The request body is not valid JSON' },
  request_body_slow: { status: 408, title: 'The request body did not arrive in time' },
  request_body_too_large: { status: 413, title: 'The request body is too large' },
  request_type_unsupported: { status: 415, title: 'The content type is not supported here' },
  request_query_invalid: { status: 400, title: 'A query parameter is not valid' },
  request_path_invalid: { status: 400, title: 'A path parameter is not valid' },
  request_header_invalid: { status: 400, title: 'A request header is not valid' },
  request_upgrade_required: { status: 426, title: 'This address speaks WebSocket' },
  request_protocol_unsupported: { status: 426, title: 'The WebSocket subprotocol or version is not supported' },
  request_precondition_failed: { status: 412, title: 'The object is not as If-Match says' },
  request_rate_limited: { status: 429, title: 'Too many requests' },
  request_token_in_url: { status: 400, title: 'A token does not belong into an address' },
  route_not_found: { status: 404, title: 'There is nothing at this address' },
  route_method_not_allowed: { status: 405, title: 'This address does not take that method' },
  internal: { status: 500, title: 'Internal error' },
  deploy_overlap: { status: 503, title: 'A newer version is being deployed; try again in a moment' },
  edge_overloaded: { status: 503, title: 'The control plane is overloaded; try again in a moment' },

  // identity
  auth_missing: { status: 401, title: 'Authentication is required' },
  auth_invalid: { status: 401, title: 'The credential is not valid' },
  auth_login_failed: { status: 401, title: 'Wrong email or password' },
  auth_password_wrong: { status: 403, title: 'The current password is wrong' },
  auth_throttled: { status: 429, title: 'Too many attempts to sign in' },
  auth_revoked: { status: 401, title: 'The credential was revoked' },
  access_denied: { status: 403, title: 'You may not do this' },
  bootstrap_done: { status: 409, title: 'This control plane already has an administrator' },

  // idempotency
  idempotency_key_invalid: { status: 400, title: 'The Idempotency-Key is not valid' },
  idempotency_key_reused: { status: 409, title: 'The Idempotency-Key was used with another body' },
  idempotency_in_progress: { status: 409, title: 'A request with this Idempotency-Key is still running' },
  idempotency_secret_shown: { status: 409, title: 'The secret of this request was shown already' },

  // accounts
  domain_not_found: { status: 404, title: 'No such domain' },
  project_not_found: { status: 404, title: 'No such project' },
  project_required: { status: 400, title: 'A project must be named' },
  user_not_found: { status: 404, title: 'No such user' },
  token_not_found: { status: 404, title: 'No such token' },
  group_not_found: { status: 404, title: 'No such resource group' },
  account_name_taken: { status: 409, title: 'The name is taken' },
  ssh_key_not_found: { status: 404, title: 'No such SSH key' },
  ssh_key_invalid: { status: 400, title: 'This is no public key of SSH that can be used here' },
  ssh_key_taken: { status: 409, title: 'You have uploaded this SSH key already' },
  ssh_key_limit: { status: 409, title: 'There are too many SSH keys' },
  preset_not_found: { status: 404, title: 'No such resource preset' },
  preset_limit: { status: 409, title: 'There are too many resource presets' },

  // agents
  agent_not_found: { status: 404, title: 'No such agent' },
  agent_unreachable: { status: 503, title: 'The agent is out of reach' },
  agent_suspended: { status: 403, title: 'The agent is suspended' },
  agent_revoked: { status: 403, title: 'The agent was revoked' },
  agent_pending: { status: 403, title: 'The agent waits for approval' },
  agent_replaced: { status: 409, title: 'The agent connected anew' },
  agent_busy: { status: 503, title: 'The agent has too much to do' },
  agent_engine_unavailable: { status: 503, title: 'The container engine of the agent does not answer' },
  agent_disk_full: { status: 507, title: 'The disk of the agent is full' },
  agent_join_token_invalid: { status: 401, title: 'The join token is not valid' },
  agent_join_token_used: { status: 401, title: 'The join token was used already' },
  agent_join_token_expired: { status: 401, title: 'The join token has expired' },
  agent_join_token_not_found: { status: 404, title: 'No such join token' },
  agent_signature_invalid: { status: 401, title: "The agent's signature is not valid" },
  agent_challenge_expired: { status: 401, title: 'The challenge has expired' },
  agent_identity_conflict: { status: 409, title: 'Two machines use the identity of this agent' },
  agent_version_unsupported: { status: 426, title: 'The agent speaks no supported version of the protocol' },
  agent_epoch_stale: { status: 409, title: 'A newer connection of the agent exists' },
  agent_upgrade_refused: { status: 409, title: 'The agent does not upgrade itself' },
  agent_upgrade_pinned: { status: 409, title: 'The agent is pinned to its version' },
  release_not_found: { status: 404, title: 'There is no such release of the agent' },

  // sessions
  session_not_found: { status: 404, title: 'No such session' },
  session_name_taken: { status: 409, title: 'A live session of the project has this name' },
  session_too_large: { status: 422, title: 'No agent of the resource group has this much' },
  session_quota_exceeded: { status: 403, title: 'A quota would be exceeded' },
  session_group_full: { status: 503, title: 'The resource group takes no more sessions now' },
  session_group_closed: { status: 409, title: 'The resource group is closed' },
  session_image_invalid: { status: 400, title: 'The image reference is not valid' },
  session_image_missing: { status: 422, title: 'The image can not be found' },
  session_not_running: { status: 409, title: 'The session is not running' },
  session_ended: { status: 409, title: 'The session has ended' },
  session_generation_stale: { status: 409, title: 'The session was placed anew' },
  session_start_failed: { status: 500, title: 'The session could not be started' },
  session_output_gone: { status: 410, title: 'The output is no longer kept' },
  session_logs_pattern_invalid: { status: 400, title: 'The pattern can not be searched for' },
  session_file_not_found: { status: 404, title: 'No such file in the session' },
  session_file_unsafe: { status: 400, title: 'The path leaves the home directory' },
  session_file_offset: { status: 409, title: 'The offset does not continue the upload' },
  session_file_archive_unsafe: { status: 400, title: 'The archive is not safe to unpack' },
  process_not_found: { status: 404, title: 'No such process in the session' },
  process_conflict: { status: 409, title: 'The process id was used with another command' },
  process_limit: { status: 429, title: 'The session runs too many processes' },
  port_unreachable: { status: 502, title: 'The port of the session can not be reached' },
  port_limit: { status: 429, title: 'The session has too many connections to its ports' },

  // object storage
  archive_chunk_invalid: { status: 400, title: 'The chunk is not what it says' },
  archive_chunk_conflict: { status: 409, title: 'Another chunk of this name is there' },
  archive_unavailable: { status: 503, title: 'The object storage of output can not be reached' },
  archive_too_large: { status: 413, title: 'There is more of this output in object storage than can be listed' },
  archive_closed: { status: 410, title: 'Nothing more is taken for this session' },

  // kernels
  kernel_not_found: { status: 404, title: 'No such kernel in the session' },
  kernel_language_missing: { status: 422, title: 'The image has no interpreter of this language' },
  kernel_spec_missing: { status: 422, title: 'The image has no kernelspec of this name' },
  kernel_spec_unusable: { status: 422, title: 'Kernels of Jupyter can not be used in this session' },
  kernel_kind_wrong: { status: 409, title: 'The kernel does not speak this protocol' },
  kernel_message_invalid: { status: 400, title: 'A message for the kernel has no valid form' },
  kernel_message_too_large: { status: 413, title: 'A message for the kernel is too large' },
  kernel_writer_replaced: { status: 409, title: 'Another stream of the same writer took over' },
  kernel_dead: { status: 409, title: 'The kernel has ended by itself' },
  kernel_busy: { status: 429, title: 'Too many runs wait for the kernel' },
  kernel_limit: { status: 429, title: 'The session has too many kernels' },
  kernel_run_not_found: { status: 404, title: 'No such run in the session' },
  kernel_run_conflict: { status: 409, title: 'The run id was used with another request' },
  kernel_input_unasked: { status: 409, title: 'The run asks for no input there' },

  // jupyter
  jupyter_kernelspec_missing: { status: 404, title: 'No such kernelspec' },
  jupyter_session_not_found: { status: 404, title: 'No such session of Jupyter' },
  jupyter_start_waits: { status: 503, title: 'The kernel found no resources in time' },
  jupyter_session_required: { status: 409, title: 'There is no session for a terminal' },
  // terminals
  terminal_not_found: { status: 404, title: 'No such terminal in the session' },
  terminal_conflict: { status: 409, title: 'The terminal id was used with another request' },
  terminal_busy: { status: 409, title: 'Another client types in this terminal' },
  terminal_limit: { status: 429, title: 'The session has too many terminals' },
  terminal_link_not_found: { status: 404, title: 'No such link to the terminal' },
  terminal_link_limit: { status: 429, title: 'The terminal has too many links' },
  terminal_screen_lost: { status: 503, title: 'The screen of the terminal can not be drawn now' },

  // tunnel
  tunnel_frame_invalid: { status: 400, title: 'A frame is not valid' },
  tunnel_stream_unknown: { status: 404, title: 'No such stream' },
  tunnel_stream_limit: { status: 429, title: 'Too many streams on one socket' },
  tunnel_window_exceeded: { status: 400, title: 'More was sent than the window allows' },
  tunnel_op_unknown: { status: 400, title: 'The operation is not known' },
  tunnel_deadline: { status: 504, title: 'The agent did not answer in time' },
  tunnel_closed: { status: 503, title: 'The connection to the agent was lost' },

  // events
  events_unavailable: { status: 503, title: 'Events need Redis, which can not be reached' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ErrorCode = keyof typeof errors;

/** A limit of a kind of request, and what is left of it. */
export interface RateLimit {
  name: string;
  /** Requests in a window. */
  quota: number;
  windowSeconds: number;
  remaining: number;
  /** Until the window is over. */
  resetSeconds: number;
}

/** A refusal with a code of the table. Thrown inside, rendered as problem+json at the wall. */
export class Refusal extends Error {
  readonly code: ErrorCode;
  /** What happened and what to do, for a person. Never holds a secret or the caller's raw input. */
  readonly detail: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly issues: readonly { path: string; message: string }[] | undefined;
  /** The limit that was met, or that this attempt counted against. */
  readonly rateLimit: RateLimit | undefined;

  constructor(
    code: ErrorCode,
    detail?: string,
    more: {
      retryAfterSeconds?: number;
      issues?: readonly { path: string; message: string }[];
      rateLimit?: RateLimit;
    } = {},
  ) {
    super(detail ?? errors[code].title);
    this.name = 'Refusal';
    this.code = code;
    this.detail = detail;
    this.retryAfterSeconds = more.retryAfterSeconds;
    this.issues = more.issues;
    this.rateLimit = more.rateLimit;
  }
}

/** What a lost answer is called: the step may have been done, and repeating it under the same key or id is harmless. */
export const outcomeUnknown = 'The outcome is unknown; ask again.';

/** True when `text` is a code of the table. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errors, text);
}
