# The runner of bash kernels (../SPEC.md): bash 5, nothing but builtins.
__cw_kernel=$1
set --
exec {__cw_in}<&0 {__cw_out}>&1 {__cw_err}>&2 {__cw_never}<> <(:) </dev/null
__cw_id= __cw_running= __cw_code= __cw_flags= __cw_status=
shopt -s expand_aliases extdebug

# FD JSON: a record, in parts of which each is one write.
__cw_record() {
  local LC_ALL=C json=$2 part flag
  while
    part=${json:0:4000} json=${json:4000} flag=.
    [[ $json ]] && flag=+
    printf '\x1e%s %s%d:%s' "$__cw_kernel" "$flag" "${#part}" "$part" >&"$1"
    [[ $json ]]
  do :; done
}

# TEXT: as a JSON string, in REPLY.
__cw_quote() {
  local LC_ALL=C text=$1
  text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t}
  REPLY=\"${text//[$'\x01'-$'\x1f']/ }\"
}

# The next frame: its verb and id in REPLY, its payload in __cw_payload. The end of input ends the kernel.
__cw_frame() {
  local LC_ALL=C IFS=' ' verb id length
  until builtin read -r -u "$__cw_in" verb id length; do (($? > 128)) || builtin exit 0; done
  __cw_payload=
  ((length == 0)) || IFS= builtin read -r -N "$length" -u "$__cw_in" __cw_payload
  REPLY="$verb $id"
}

# Leaves the run from however deep: by extdebug, a DEBUG trap that says 2 returns from a function or a sourced file.
__cw_leave() {
  [[ $__cw_running ]] || return 0
  __cw_status=$1
  trap __cw_unwind DEBUG
}
__cw_unwind() {
  [[ " ${FUNCNAME[*]} " == *" source "* ]] || return 0
  return 2
}

exit() {
  local status=$?
  if [[ $BASH_SUBSHELL -gt 0 || ! $__cw_running ]]; then builtin exit "${1:-$status}"; fi
  __cw_leave "$(((${1:-$status}) & 255))"
}

# Asks for a line where standard input is nothing: of the run, unless something was redirected. Only the shell itself asks: a job
# would read what comes for the shell.
read() {
  [[ $__cw_running && $BASHPID == "$$" && /proc/self/fd/0 -ef /dev/null ]] || { builtin read "$@"; return; }
  local OPTIND=1 OPTARG __cw_option __cw_prompt= __cw_password=false __cw_payload __cw_asked __cw_asking=$__cw_id
  local -a __cw_options=()
  while getopts ersa:d:i:n:N:p:t:u: __cw_option; do
    case $__cw_option in
      p) __cw_prompt=$OPTARG ;;
      s) __cw_password=true ;;
      u) builtin read "$@"; return ;;
      e | i | t) ;;
      r) __cw_options+=(-r) ;;
      *) __cw_options+=("-$__cw_option" "$OPTARG") ;;
    esac
  done
  shift $((OPTIND - 1))
  local REPLY
  __cw_quote "$__cw_prompt"
  __cw_asked="\"prompt\":$REPLY,\"password\":$__cw_password"
  while
    [[ ! $__cw_asking ]] || __cw_record "$__cw_out" "{\"kind\":\"input\",\"id\":\"$__cw_asking\",$__cw_asked}"
    # An interrupt ends no `read` that is under way: it begins when there is something.
    until builtin read -t 0 -u "$__cw_in"; do builtin read -t 0.05 -u "$__cw_never"; done
    __cw_frame
    __cw_asking=
    [[ $REPLY != mark* ]] || __cw_asking=${REPLY#* }
    [[ $REPLY != input* ]]
  do :; done
  unset -v REPLY
  builtin read "${__cw_options[@]}" "$@" <<<"$__cw_payload"
}

__cw_complete() {
  local word=${__cw_payload##*[[:space:]\;\|\&\(\)\<\>\`]} before match list=
  before=${__cw_payload%"$word"}
  local -a found=()
  if [[ $word == \$* ]]; then
    mapfile -t found < <(compgen -v -P '$' -- "${word#\$}")
  elif [[ ! ${before//[[:space:]]/} || $before =~ [\;\|\&\(\`][[:space:]]*$ ]]; then
    mapfile -t found < <(compgen -c -- "$word" | sort -u | grep -v '^__cw_')
  else
    mapfile -t found < <(compgen -f -- "$word")
  fi
  for match in "${found[@]:0:256}"; do
    __cw_quote "$match"
    list+=${list:+,}$REPLY
  done
  __cw_record "$__cw_out" "{\"kind\":\"completion\",\"id\":\"$__cw_id\",\"matches\":[$list],\"replaces\":${#word}}"
}

# Ends the run that is under way, whichever way it came to its end.
__cw_settle() {
  [[ $__cw_running ]] || return 0
  __cw_running=
  trap - DEBUG
  __cw_flags=${-//[!eux]/}
  set +eux
  if [[ $__cw_status == 130 ]]; then
    __cw_record "$__cw_out" "{\"kind\":\"error\",\"id\":\"$__cw_id\",\"name\":\"Interrupted\",\"message\":\"\",\"traceback\":\"Interrupted\\n\"}"
  fi
  __cw_record "$__cw_err" "{\"kind\":\"mark\",\"id\":\"$__cw_id\"}"
  __cw_record "$__cw_out" "{\"kind\":\"finished\",\"id\":\"$__cw_id\",\"exitCode\":${__cw_status:-$__cw_code}}"
}

__cw_record "$__cw_out" "{\"kind\":\"ready\",\"id\":null,\"language\":\"bash\",\"version\":\"${BASH_VERSINFO[0]}.${BASH_VERSINFO[1]}.${BASH_VERSINFO[2]}\"}"
# Twice, since a `break` of the program's ends one; and in no function, where `declare` would be local.
while :; do
  while :; do
    __cw_settle
    trap '__cw_leave 130' INT
    __cw_frame
    __cw_id=${REPLY#* } __cw_code=0 __cw_status=
    case ${REPLY%% *} in
      mark) __cw_record "$__cw_out" "{\"kind\":\"mark\",\"id\":\"$__cw_id\"}" ;;
      run)
        __cw_running=1
        [[ $__cw_flags ]] && set "-$__cw_flags"
        . /dev/fd/250 250<<<"$__cw_payload"
        __cw_code=$?
        ;;
      shell)
        __cw_running=1
        /bin/sh -c "$__cw_payload"
        __cw_code=$?
        ;;
      complete)
        __cw_running=1
        __cw_complete
        ;;
    esac
  done
done
