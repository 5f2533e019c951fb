/** Waiting for a session, saying for what. */
import { Session } from '../../schema/api/session.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { CliFailure } from '../exit.ts';
import { type Api, unreachableCode } from '../http/api.ts';
import { bytesText, plain } from '../terminal/table.ts';
import { WaitingLine } from '../terminal/waiting.ts';

const firstPollMs = 50;
const lastPollMs = 1000;

/** What a session waits for, in words. */
export function waitingFor(session: Session): string {
  const progress = session.progress;
  if (progress !== undefined) {
    const share =
      progress.totalBytes === undefined || progress.doneBytes === undefined
        ? ''
        : ` ${bytesText(progress.doneBytes)} of ${bytesText(progress.totalBytes)}`;
    return plain(`${session.state.toLowerCase()}: ${progress.phase} ${progress.detail}${share}`);
  }
  const reason = session.reason;
  if (reason === undefined) return session.state.toLowerCase();
  return plain(`${session.state.toLowerCase()}: ${reason.detail ?? reason.code}`);
}

/**
 * Polls (50 ms, growing to 1 s) until `until` holds or the session is over; shows the reason for every wait. A control plane
 * that is away is waited for: the session goes on.
 */
export async function waitForSession(
  api: Api,
  id: string,
  until: (session: Session) => boolean,
  options: { quiet: boolean; signal?: AbortSignal },
): Promise<Session> {
  const line = new WaitingLine(options.quiet);
  try {
    for (let pauseMs = firstPollMs; ; pauseMs = Math.min(pauseMs * 1.5, lastPollMs)) {
      const session = await look(api, id, options.signal);
      if (session !== undefined && (until(session) || isTerminal(session.state))) return session;
      line.say(session === undefined ? 'the control plane is out of reach' : waitingFor(session));
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  } finally {
    line.done();
  }
}

/** Undefined when the control plane is away. */
async function look(api: Api, id: string, signal: AbortSignal | undefined): Promise<Session | undefined> {
  try {
    return await api.json(Session, 'GET', `/v1/sessions/${id}`, signal ? { signal } : {});
  } catch (error) {
    if (error instanceof CliFailure && error.code === unreachableCode) return undefined;
    throw error;
  }
}
