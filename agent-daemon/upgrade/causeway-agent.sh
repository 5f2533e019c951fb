#!/bin/sh
# Keeps the agent of this machine: causeway-agent run|start|stop|status|log|uninstall. It starts the version that `current`
# names, again and again; a newer version on trial (file `trial`, by the agent before it switches) that does not come to
# its feet is given up for the one before. Lies in DIR/bin; installed and renewed by install.sh alone, never by an upgrade.
set -u

self=$0
while [ -L "$self" ]; do
  target=$(readlink "$self")
  case $target in /*) self=$target ;; *) self=${self%/*}/$target ;; esac
done
dir=$(cd "$(dirname "$self")/.." && pwd -P) || exit 70
unit=causeway-agent.service
unit_file=/etc/systemd/system/$unit

# By which the agent says that it wants to be started again, at once: after an upgrade.
again=85
# Starts that a version on trial gets, and how long each may take to prove itself: twice its own limit.
most_starts=3
trial_seconds=$((${CAUSEWAY_TRIAL_SECONDS:-120} * 2))

say() { printf '%s causeway-agent: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >&2; }
fail() {
  printf 'causeway-agent: %s\n' "$1" >&2
  exit "${2:-1}"
}

fact() { sed -n "s/^$1=//p" "$dir/trial" 2>/dev/null | head -n 1; }
current() { basename "$(readlink "$dir/current")"; }

# Written whole or not at all.
put() {
  cat >"$dir/$1.new" && mv "$dir/$1.new" "$dir/$1"
}

point() {
  rm -f "$dir/current.new"
  ln -s "versions/$1" "$dir/current.new" && mv -T "$dir/current.new" "$dir/current"
}

# Counts a start of a version on trial, or gives it up.
judge_trial() {
  [ -f "$dir/trial" ] || return 0
  from=$(fact from) to=$(fact to) starts=$(fact starts)
  if [ "$(current)" != "$to" ]; then
    # It was cut off before the switch: the version before runs on.
    rm -f "$dir/trial"
    return 0
  fi
  if [ "${starts:-0}" -ge "$most_starts" ]; then
    if [ -n "$(fact hung)" ]; then
      roll_back "it hung: in $trial_seconds s it neither ended nor connected and reported"
    else
      roll_back "it ended $most_starts times without having connected and reported${1:+, the last time with exit $1}"
    fi
    return 0
  fi
  printf 'from=%s\nto=%s\nstarts=%s\n' "$from" "$to" "$((${starts:-0} + 1))" | put trial
}

roll_back() {
  if ! [ -x "$dir/versions/$from/start" ]; then
    say "$to does not come up, and $from is not here any more: it goes on with $to"
    rm -f "$dir/trial"
    return 0
  fi
  say "$to is given up for $from: $1"
  printf 'from=%s\nto=%s\nreason=%s\n' "$from" "$to" "$1" | put rolled-back
  point "$from" && rm -f "$dir/trial"
}

# Ends a version on trial that neither ends nor proves itself.
guard_trial() {
  [ -f "$dir/trial" ] || return 0
  (
    left=$trial_seconds
    while [ "$left" -gt 0 ] && kill -0 "$1" 2>/dev/null && [ -f "$dir/trial" ]; do
      sleep 1
      left=$((left - 1))
    done
    [ -f "$dir/trial" ] && [ "$left" -eq 0 ] || exit 0
    # The next start would hang as this one does.
    printf 'from=%s\nto=%s\nstarts=%s\nhung=yes\n' "$from" "$to" "$most_starts" | put trial
    kill -KILL "$1" 2>/dev/null
  ) &
}

run() {
  mkdir -p "$dir/state"
  exec 8>"$dir/run.lock"
  # Whoever asks whether it runs holds the lock for a moment.
  flock -w 3 8 || fail "it runs already (process $(cat "$dir/run.pid" 2>/dev/null))" 75
  echo $$ >"$dir/run.pid"
  # The agent goes with its keeper, where util-linux is.
  death=''
  if setpriv --pdeathsig KILL true 2>/dev/null; then death='setpriv --pdeathsig KILL'; fi
  stopping=no child='' failures=0 status='' ended=''
  trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT HUP
  while [ "$stopping" = no ]; do
    judge_trial "$ended"
    load_settings
    began=$(date +%s)
    # shellcheck disable=SC2086 # two words, or none
    $death sh "$dir/versions/$(current)/start" --state "$dir/state" 8>&- &
    child=$!
    guard_trial "$child"
    wait_child
    ended=$status
    [ "$stopping" = no ] || break
    [ "$status" -ne "$again" ] || continue
    # Wrong usage, and a refusal of the edge: the next try would end the same way, unless there is another version.
    if { [ "$status" -eq 64 ] || [ "$status" -eq 77 ]; } && ! [ -f "$dir/trial" ]; then
      rm -f "$dir/run.pid"
      exit "$status"
    fi
    [ $(($(date +%s) - began)) -lt 60 ] || failures=0
    failures=$((failures + 1))
    pause=$((failures < 6 ? failures * failures : 30))
    say "the agent ended with exit $status, and is started again in $pause s"
    sleep "$pause" &
    child=$!
    wait_child
  done
  rm -f "$dir/run.pid"
  exit 0
}

# A signal interrupts `wait`; the child is still there then. One that came before `child` was known is passed on here.
wait_child() {
  [ "$stopping" = no ] || kill -TERM "$child" 2>/dev/null
  wait "$child"
  status=$?
  while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
  done
  child=''
}

# shellcheck disable=SC2034 # all is exported
load_settings() {
  set -a
  # shellcheck disable=SC1091 # made by install.sh
  . "$dir/agent.env"
  CAUSEWAY_INSTALL=$dir
  CAUSEWAY_JOIN_TOKEN=''
  if [ -f "$dir/state/identity.json" ]; then
    rm -f "$dir/join-token"
  elif [ -f "$dir/join-token" ]; then
    CAUSEWAY_JOIN_TOKEN=$(cat "$dir/join-token")
  fi
  set +a
}

has_unit() { [ -f "$unit_file" ] && [ -d /run/systemd/system ] && grep -q "^ExecStart=$dir/bin/" "$unit_file"; }

# Also one that was started in the background before there was a unit.
is_running() {
  if has_unit && systemctl is-active --quiet "$unit"; then return 0; fi
  [ -f "$dir/run.lock" ] || return 1
  ! flock -n "$dir/run.lock" true
}

start() {
  is_running && fail "it runs already" 0
  if has_unit; then
    systemctl start "$unit"
    return
  fi
  [ ! -f "$dir/agent.log" ] || mv "$dir/agent.log" "$dir/agent.log.1"
  (umask 077 && setsid "$dir/bin/causeway-agent" run </dev/null >"$dir/agent.log" 2>&1 &)
  left=200
  while [ "$left" -gt 0 ] && ! is_running; do
    sleep 0.1
    left=$((left - 1))
  done
  is_running || fail "it did not start; see $dir/agent.log"
  echo "started in the background; its log: $dir/agent.log (not after a reboot: no systemd here)"
}

stop() {
  if has_unit; then systemctl stop "$unit"; fi
  is_running || return 0
  pid=$(cat "$dir/run.pid" 2>/dev/null) || return 0
  kill -TERM "$pid" 2>/dev/null
  left=300
  while [ "$left" -gt 0 ] && is_running; do
    sleep 0.1
    left=$((left - 1))
  done
  ! is_running || fail "process $pid does not end; see $dir/agent.log"
}

show_log() {
  if has_unit; then
    journalctl -u "$unit" -n 50 --no-pager
  else
    tail -n 50 "$dir/agent.log"
  fi
}

show_status() {
  echo "version    $(current)"
  echo "directory  $dir"
  if is_running; then echo "running    yes, containers are looked after"; else echo "running    no: causeway-agent start"; fi
  [ ! -f "$dir/trial" ] || echo "trial      $(fact to), start $(fact starts) of $most_starts; before it: $(fact from)"
  if [ -f "$dir/state/status.json" ]; then
    echo "tunnel     $(tr -d ' \n' <"$dir/state/status.json" | sed -n 's/.*"tunnel":{"state":"\([a-z]*\)".*/\1/p') (last said)"
  fi
}

uninstall() {
  force=${1:-}
  containers=''
  agent=$(sed -n 's/.*"agentId":"\([^"]*\)".*/\1/p' "$dir/state/identity.json" 2>/dev/null)
  if [ -n "$agent" ]; then
    load_settings
    engine containers list || [ "$force" = --force ] ||
      fail "the engine was not asked: start it, or: uninstall --force" 69
    if [ -n "$containers" ] && [ "$force" != --force ]; then
      fail "containers of sessions are here: end the sessions first, or take them along with: uninstall --force"
    fi
  fi
  stop
  if has_unit; then
    systemctl disable "$unit" >/dev/null 2>&1
    rm -f "$unit_file"
    systemctl daemon-reload
    echo "removed $unit_file"
  fi
  [ -z "$agent" ] || engine _ remove || echo "the engine was not asked: containers may be left there"
  [ -z "$agent" ] || unguard
  cd / || exit 70
  # Files of sessions may be owned by users of containers.
  rm -rf "$dir" || fail "$dir could not be removed"
  echo "removed $dir"
  [ -z "$agent" ] || echo "on the control plane: causeway agent revoke --yes $agent"
}

# Takes the agent's rules out of the packet filter, and their chain with the last of them (schema/guard.ts).
unguard() {
  pool=${CAUSEWAY_NETWORK_POOL:-10.213.0.0/16}
  iptables -w -S 2>/dev/null | grep -e "^-A CAUSEWAY-INPUT -s $pool " -e " -s $pool -d 169.254.0.0/16 " |
    while read -r _ rule; do
      # shellcheck disable=SC2086 # words of a rule
      iptables -w -D $rule
    done
  if [ "$(iptables -w -S CAUSEWAY-INPUT 2>/dev/null)" = '-N CAUSEWAY-INPUT' ]; then
    iptables -w -D INPUT -j CAUSEWAY-INPUT
    iptables -w -X CAUSEWAY-INPUT
  fi
}

# engine VARIABLE list|remove: by the Node that is here anyway. Those of sessions, what waits in advance for one is not
# among them; or every container and network of this agent.
engine() {
  # shellcheck disable=SC2016 # JavaScript
  answer=$("$dir/current/node" -e '
    const { request } = require("node:http");
    const [socketPath, agent, verb] = process.argv.slice(1);
    const filters = encodeURIComponent(JSON.stringify({ label: [`causeway.agent=${agent}`] }));
    const call = (method, path) => new Promise((resolve, reject) => {
      const sent = request({ socketPath, method, path }, (answer) => {
        let text = "";
        answer.on("data", (bytes) => (text += bytes)).on("end", () => resolve(text));
      });
      sent.on("error", reject).end();
    });
    (async () => {
      const containers = JSON.parse(await call("GET", `/containers/json?all=1&filters=${filters}`));
      const ofSession = ({ Labels, Names }) => "causeway.session" in Labels || Names.some((name) => name.startsWith("/ses_"));
      if (verb === "list") return console.log(containers.filter(ofSession).map((each) => each.Id).join(" "));
      for (const each of containers) await call("DELETE", `/containers/${each.Id}?force=1&v=1`);
      const networks = JSON.parse(await call("GET", `/networks?filters=${filters}`));
      for (const each of networks) await call("DELETE", `/networks/${each.Id}`);
    })().catch((error) => { console.error(String(error)); process.exit(1); });
  ' "${DOCKER_HOST#unix://}" "$agent" "$2") || return 1
  [ "$1" != containers ] || containers=$answer
}

case ${1:-} in
  run) run ;;
  start) start ;;
  stop) stop ;;
  status) show_status ;;
  is-running) is_running ;;
  log) show_log ;;
  uninstall) uninstall "${2:-}" ;;
  *) fail "usage: causeway-agent run|start|stop|status|log|uninstall [--force]" 64 ;;
esac
