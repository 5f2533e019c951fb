/** What a failed call to Docker means. Pure. */
import { RuntimeError, type RuntimeErrorKind } from './runtime.ts';

const connectionCodes = new Set(['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'EPIPE', 'ENOTSOCK', 'EACCES']);

/** Any error of dockerode or of its connection as a RuntimeError; `what` names the call in its message. */
export function toRuntimeError(what: string, error: unknown): RuntimeError {
  if (error instanceof RuntimeError) return error;
  const message = sayWhy(error);
  return new RuntimeError(kindOf(error, message), `${what}: ${message}`, { cause: error });
}

function kindOf(error: unknown, message: string): RuntimeErrorKind {
  const { code, statusCode, name } = (typeof error === 'object' && error !== null ? error : {}) as {
    code?: unknown;
    statusCode?: unknown;
    name?: unknown;
  };
  if (name === 'AbortError' || name === 'TimeoutError') return 'timeout';
  if (/no space left on device/i.test(message)) return 'disk-full';
  if (typeof code === 'string' && connectionCodes.has(code)) return 'unavailable';
  if (/^(socket hang up|aborted|premature close)/i.test(message)) return 'unavailable';
  if (statusCode === 404 || isUnknownImage(message)) return 'not-found';
  if (statusCode === 409) return 'conflict';
  if (statusCode === 400) return 'invalid';
  return 'failed';
}

/** Registries say "not there" and "not yours" in many ways, and in a pull they come without a status. */
function isUnknownImage(message: string): boolean {
  return unknownImage.test(message);
}

const unknownImage =
  /manifest unknown|manifest for .* not found|repository does not exist|pull access denied|name unknown|no matching manifest|repository .* not found|unauthorized|no basic auth/i;

/** The engine's own words where there are some, on one line, without the client library's wrapping. */
function sayWhy(error: unknown): string {
  const said = (error as { json?: { message?: unknown } } | undefined)?.json?.message;
  const text = typeof said === 'string' ? said : error instanceof Error ? error.message : String(error);
  return text
    .replace(/^\(HTTP code \d+\) [a-z ]+ - /, '')
    .replaceAll(/\s+/g, ' ')
    .trim()
    .slice(0, 500);
}
