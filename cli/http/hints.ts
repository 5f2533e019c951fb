/** What to type after a refusal, by error code. Only where one command really helps. */
import type { ErrorCode } from '../../schema/errors.ts';

const hints: Partial<Record<ErrorCode, string>> = {
  auth_missing: 'causeway login',
  auth_invalid: 'causeway login',
  auth_revoked: 'causeway login',
  auth_login_failed: 'check email and password; on this machine they are in $CAUSEWAY_HOME/admin.json',
  auth_password_wrong: 'type the password that you sign in with now; forgotten: ask an administrator',
  session_not_found: 'causeway ps -a',
  session_name_taken: 'another --name, or: causeway stop NAME',
  session_too_large: 'causeway agent list   (what each machine has)',
  session_image_missing:
    'causeway images   (what machines hold; on the machine, causeway doctor says which registry it reaches)',
  session_image_invalid: 'causeway images   (references look like NAME[:TAG] or NAME@sha256:...)',
  session_not_running: 'causeway ps -a',
  session_ended: 'causeway logs SESSION   (its output is kept for a while)',
  terminal_not_found: 'causeway terminals SESSION',
  terminal_link_not_found: 'causeway terminals links SESSION',
  ssh_key_not_found: 'causeway ssh-key list   or: causeway ssh-key add',
  ssh_key_taken: 'causeway ssh-key list',
  ssh_key_limit: 'causeway ssh-key list   (then remove one)',
  project_not_found: 'causeway whoami   (lists your projects)',
  project_required: 'name one with --project; causeway whoami lists yours',
  agent_not_found: 'causeway agent list',
  agent_unreachable: 'causeway agent list   (the session goes on; try again when its machine is back)',
  agent_engine_unavailable: 'causeway agent show NAME   (what is wrong there; containers go on)',
  agent_disk_full: 'causeway agent show NAME   (how much room its machine has; free some, then try again)',
  agent_join_token_invalid: 'causeway agent token create --resource-group default',
  agent_join_token_used: 'causeway agent token create --resource-group default',
  agent_join_token_expired: 'causeway agent token create --resource-group default',
  group_not_found: 'causeway agent list   (shows the groups in use)',
  events_unavailable: 'causeway status   (Redis is part of it)',
};

/** The next command to type after a refusal with `code`, if one helps. */
export function hintFor(code: string): string | undefined {
  return hints[code as ErrorCode];
}
