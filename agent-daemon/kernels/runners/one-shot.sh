# The runner of languages that keep nothing between runs (../SPEC.md): each run is a process of the interpreter. POSIX sh,
# dd and mktemp, nothing else.
kernel=$1 program=$2
command -v "$program" >/dev/null || exit 127
exec 3<&0 4>&1 5>&2 </dev/null

# FD JSON: a record in one part; it is ASCII, and short.
record() {
  printf '\036%s .%d:%s' "$kernel" "${#2}" "$2" >&"$1"
}

# The payload of LENGTH bytes. One at a time, since what is read too much is lost.
payload() {
  dd bs=1 count="$1" <&3 2>/dev/null
}

# COMMAND...: a process of the run, which an interrupt ends: what the shell has a trap for is not ignored there. Some
# interpreters end with a status of their own then.
run() {
  interrupted=
  trap interrupted=1 INT
  "$@" 3<&- 4>&- 5>&-
  status=$?
  trap '' INT
  [ "$interrupted" ] && [ "$status" -ne 0 ] && status=130
}

code=$(mktemp 2>/dev/null || mktemp "$HOME/.causeway.XXXXXX") || exit 1
trap 'rm -f "$code"' EXIT
# For what the runner does itself: an interrupt would end its `read` as the end of input does.
trap '' INT
version=$("$program" -e "$3" 2>/dev/null)
record 4 "{\"kind\":\"ready\",\"id\":null,\"language\":\"$4\",\"version\":\"$version\"}"
while read -r verb id length <&3; do
  status=0
  case $verb in
    mark)
      record 4 "{\"kind\":\"mark\",\"id\":\"$id\"}"
      continue
      ;;
    complete)
      payload "$length" >/dev/null
      record 4 "{\"kind\":\"completion\",\"id\":\"$id\",\"matches\":[],\"replaces\":0}"
      ;;
    run)
      payload "$length" >"$code"
      run "$program" "$code"
      ;;
    shell)
      command=$(payload "$length" && printf x)
      run /bin/sh -c "${command%x}"
      ;;
    *)
      payload "$length" >/dev/null
      continue
      ;;
  esac
  if [ "$status" -eq 130 ]; then
    record 4 "{\"kind\":\"error\",\"id\":\"$id\",\"name\":\"Interrupted\",\"message\":\"\",\"traceback\":\"Interrupted\\n\"}"
  fi
  record 5 "{\"kind\":\"mark\",\"id\":\"$id\"}"
  record 4 "{\"kind\":\"finished\",\"id\":\"$id\",\"exitCode\":$status}"
done
