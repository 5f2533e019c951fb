import { Refusal } from '../../schema/errors.ts';

/** What is said of a session that runs and that this agent, which has just begun, does not hold yet: clients ask again. */
export function notTakenOver(): Refusal {
  return new Refusal('session_not_running', 'The session is just being taken over. Try again in a moment.');
}
