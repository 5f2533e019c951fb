#!/bin/sh
# Makes this machine an agent of a Causeway control plane, or its agent a newer one:
#   curl -fsSL URL/install.sh | sh -s -- TOKEN
# It needs sh, curl or wget, gzip, sha256sum, flock and Docker, and brings Node itself. Everything goes below one
# directory, and each step is said. Nothing is run before all of it has arrived (main, at the end).
set -eu

usage() {
  cat <<'END'
usage: sh install.sh [options] [TOKEN]
  TOKEN                 join token; needed once (on the control plane: causeway agent token create)
  --url URL             address of the control plane; default: where this script came from
  --pin sha256:HEX      trust the TLS server with this key, and no authority
  --dir DIR             where to install; default: /opt/causeway, without root ~/.local/opt/causeway
  --name NAME           name of the agent; default: the host's
  --docker-host ADDR    socket of the engine; default: $DOCKER_HOST, else unix:///var/run/docker.sock
  --no-service          no systemd unit, also where systemd runs
  --no-start            install only
The agent goes the way of this run: by HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and the like. What is not said in a later
run stays as it was (agent.env).
END
}

# Variables by which the control plane is reached.
way='HTTPS_PROXY https_proxy HTTP_PROXY http_proxy NO_PROXY no_proxy SSL_CERT_FILE SSL_CERT_DIR NODE_EXTRA_CA_CERTS'

say() { printf '%-11s%s\n' "$1" "$2"; }

# What happened, why, and what to do.
fail() {
  printf 'causeway: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  try: %s\n' "$2" >&2
  exit 1
}

read_options() {
  url='@url@' token='' pin='' dir='' name='' service=yes start=yes
  docker=${DOCKER_HOST:-}
  while [ $# -gt 0 ]; do
    case $1 in
      --url | --pin | --dir | --name | --docker-host)
        [ $# -gt 1 ] || fail "$1 needs a value"
        case $1 in
          --url) url=${2%/} ;;
          --pin) pin=$2 ;;
          --dir) dir=$2 ;;
          --name) name=$2 ;;
          --docker-host) docker=$2 ;;
        esac
        shift
        ;;
      --no-service) service=no ;;
      --no-start) start=no ;;
      -h | --help) usage; exit 0 ;;
      cwj_*) token=$1 ;;
      *) fail "$1 is not an option, and not a join token" "copy the whole line that causeway agent token create printed" ;;
    esac
    shift
  done
  root=no
  [ "$(id -u)" != 0 ] || root=yes
  if [ -z "$dir" ]; then
    if [ "$root" = yes ]; then dir=/opt/causeway; else dir=${HOME:?}/.local/opt/causeway; fi
  fi
  case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
  dir=${dir%/}
  recall_settings
  # These go into a file that a shell reads.
  matches "$url" '^https?://[A-Za-z0-9._:\[-]+(\])?(:[0-9]+)?$' || fail "--url $url is not the address of a control plane" "--url https://HOST"
  [ -z "$pin" ] || matches "$pin" '^sha256:[0-9A-Fa-f]{64}(,sha256:[0-9A-Fa-f]{64})*$' || fail "--pin takes sha256: and 64 hexadecimal digits"
  [ -z "$name" ] || matches "$name" '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$' || fail "--name takes a-z, 0-9, dots and dashes"
  matches "$docker" "^unix:///[^' ]+\$" || fail "the engine at $docker can not be driven: only a unix socket of this machine can" "--docker-host unix:///var/run/docker.sock"
  matches "$dir" "^/[A-Za-z0-9/._+-]+\$" || fail "--dir $dir has characters that a path of the agent can not have"
  for each in $way; do
    case $(value_of "$each") in *\'*) fail "$each has a ', which it can not have here" "%27 in its place, in an address" ;; esac
  done
}

# What this run was not told is as it was. A pin is that of an address.
recall_settings() {
  [ -n "$pin" ] || [ "$(setting CAUSEWAY_URL)" != "$url" ] || pin=$(setting CAUSEWAY_PIN)
  [ -n "$name" ] || name=$(setting CAUSEWAY_AGENT_NAME)
  [ -n "$docker" ] || docker=$(setting DOCKER_HOST)
  docker=${docker:-unix:///var/run/docker.sock}
  for each in $way; do
    was=$(setting "$each")
    [ -n "$(value_of "$each")" ] || [ -z "$was" ] || export "$each=$was"
  done
}

# setting NAME: its value in agent.env, where there is one.
setting() { sed -n "s/^$1='*\([^']*\)'*\$/\1/p" "$dir/agent.env" 2>/dev/null | head -n 1; }

value_of() { eval "printf '%s' \"\${$1:-}\""; }

matches() { printf '%s\n' "$1" | grep -Eq "$2"; }

have() { command -v "$1" >/dev/null 2>&1; }

check_machine() {
  [ "$(uname -s)" = Linux ] || fail "an agent runs on Linux, this is $(uname -s)"
  case $(uname -m) in
    x86_64 | amd64) arch=x64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) fail "there is no agent for $(uname -m) machines, only for x86_64 and aarch64" ;;
  esac
  kernel=$(uname -r)
  major=${kernel%%.*}
  minor=${kernel#*.}
  minor=${minor%%[!0-9]*}
  if [ "$major" -lt 4 ] || { [ "$major" -eq 4 ] && [ "${minor:-0}" -lt 18 ]; }; then
    fail "Linux $kernel is too old: Node 24, which the agent runs on, needs 4.18 or newer" "upgrade this machine's system"
  fi
  for tool in gzip sha256sum flock grep sed df mktemp; do
    have "$tool" || fail "$tool is missing" "apt-get install coreutils util-linux gzip grep sed"
  done
  if have curl; then
    downloader=curl
  elif have wget; then
    downloader=wget
    if wget --version 2>/dev/null | grep -q 'GNU Wget'; then downloader=gnu-wget; fi
  else
    fail "neither curl nor wget is here" "apt-get install curl"
  fi
  if [ -n "$pin" ] && [ "$downloader" = wget ]; then
    fail "this wget can not check --pin" "apt-get install curl"
  fi
  say machine "Linux $kernel on $arch, with $downloader"
  check_engine
}

check_engine() {
  socket=${docker#unix://}
  [ -S "$socket" ] || fail "there is no container engine at $socket" \
    "apt-get install docker.io (Debian, Ubuntu), or https://docs.docker.com/engine/install/; another socket: --docker-host unix:///PATH"
  [ -w "$socket" ] || fail "$(id -un) may not use the engine at $socket" "run this as root, or: usermod -aG docker $(id -un), and sign in anew"
  if [ "$downloader" = curl ]; then
    curl -fsS --max-time 15 --unix-socket "$socket" http://engine/_ping >/dev/null 2>&1 ||
      fail "the engine at $socket does not answer" "systemctl start docker, and look at: journalctl -u docker"
  fi
  say engine "Docker at $socket"
}

# A server that is pinned is known by its key alone, whoever signed its certificate.
prepare_pins() {
  curl_pin=''
  [ -n "$pin" ] || return 0
  for each in $(printf '%s' "$pin" | tr ',A-F' ' a-f'); do
    octal=$(printf '%s' "${each#sha256:}" | sed 's/../0x& /g')
    # shellcheck disable=SC2059,SC2046,SC2086 # one escape for each byte
    base64=$(printf "$(printf '\\%03o' $octal)" | base64)
    curl_pin="${curl_pin:+$curl_pin;}sha256//$base64"
  done
}

# get PATH FILE
get() {
  case $downloader in
    curl)
      if [ -n "$pin" ]; then set -- "$1" "$2" -k --pinnedpubkey "$curl_pin"; fi
      from=$1 to=$2
      shift 2
      # A refusal has its reason in its body.
      status=$(curl -sS --connect-timeout 15 --retry 3 "$@" -o "$to" -w '%{http_code}' "$url$from") || lost "$from"
      [ "$status" = 200 ] || refused "$from" "$status" "$to"
      ;;
    gnu-wget)
      if [ -n "$pin" ]; then set -- "$1" "$2" --no-check-certificate --pinnedpubkey "$curl_pin"; fi
      from=$1 to=$2
      shift 2
      wget -q --timeout=30 --tries=3 "$@" -O "$to" "$url$from" || lost "$from"
      ;;
    *) wget -q -T 30 -O "$2" "$url$1" || lost "$1" ;;
  esac
}

lost() {
  room "$dir" 1
  fail "$url$1 could not be downloaded" "is $url the right address, and reachable from here?"
}

refused() {
  detail=$(sed -n 's/.*"detail":"\([^"]*\)".*/\1/p' "$3" | head -n 1)
  fail "the control plane answered $2 to $1${detail:+: $detail}"
}

# room DIR MEGABYTES: refuses a disk that has less.
room() {
  free=$(df -Pk "$1" | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\).*/\1/p')
  [ "${free:-0}" -ge $(($2 * 1024)) ] ||
    fail "the disk of $1 has $((${free:-0} / 1024)) MB free, and the agent needs $2 MB" "free some space, or: --dir DIR"
}

sum_of() { sha256sum "$1" | sed 's/ .*//'; }

# Reads the manifest line by line: what it names is downloaded, checked and unpacked into $fresh.
fetch_release() {
  mkdir -p "$dir/versions"
  chmod 755 "$dir" "$dir/versions"
  get "/agent/v1/release/$arch/manifest" "$work/manifest"
  version=$(sed -n 's/^version \([0-9][0-9A-Za-z.+-]*\)$/\1/p' "$work/manifest" | head -n 1)
  if [ -z "$version" ] || ! grep -q '^causeway-release 1$' "$work/manifest" || ! grep -q "^arch $arch\$" "$work/manifest"; then
    fail "what $url answered is not the manifest of a release for $arch"
  fi
  check_signature
  if [ -f "$dir/versions/$version/manifest" ]; then
    say release "$version is here already"
    return 0
  fi
  need=$(sed -n 's/^file [0-9]* \([0-9]*\) .*/\1/p; s/^part [0-9a-f]* \([0-9]*\)$/\1/p' "$work/manifest" | add)
  room "$dir" $((need / 1048576 + 32))
  say release "$version, $(sed -n 's/^part [0-9a-f]* \([0-9]*\)$/\1/p' "$work/manifest" | add | megabytes) MB to download"
  fresh=$work/version
  mkdir "$fresh"
  at=0
  grep '^file ' "$work/manifest" >"$work/files"
  while read -r _ mode bytes sum span path; do
    unpack_file "$mode" "$bytes" "$sum" "${span%-*}" "${span#*-}" "$path"
  done <"$work/files"
  "$fresh/node" --version >/dev/null 2>&1 ||
    fail "Node does not run here: it needs glibc 2.28 or newer and libstdc++ (Alpine and other systems with musl have neither)" "apt-get install libstdc++6"
  mv "$work/manifest" "$fresh/manifest"
  rm -rf "$dir/versions/$version"
  mv "$fresh" "$dir/versions/$version"
}

add() {
  total=0
  while read -r each; do total=$((total + each)); done
  echo "$total"
}

megabytes() {
  read -r each
  echo $((each / 1048576))
}

unpack_file() {
  mode=$1 bytes=$2 sum=$3 first=$4 last=$5 path=$6
  case /$path/ in */../* | */./* | *//*) fail "the release has a file at $path" ;; esac
  : >"$work/packed"
  at=$first
  while [ "$at" -le "$last" ]; do
    part=$(sed -n 's/^part \([0-9a-f]*\) .*/\1/p' "$work/manifest" | sed -n "$((at + 1))p")
    get "/agent/v1/release/$arch/parts/$part" "$work/part"
    [ "$(sum_of "$work/part")" = "$part" ] ||
      fail "part $at of $path arrived with a wrong checksum, and nothing of it was kept" "run this again; if it stays so, somebody changes what you download"
    cat "$work/part" >>"$work/packed" || full
    rm -f "$work/part"
    at=$((at + 1))
  done
  mkdir -p "$fresh/$(dirname "$path")"
  gzip -dc <"$work/packed" >"$fresh/$path" || full
  [ "$(sum_of "$fresh/$path")" = "$sum" ] || fail "$path of $bytes bytes unpacked with a wrong checksum, and nothing of it was kept"
  chmod "$mode" "$fresh/$path"
}

full() {
  room "$dir" 64
  fail "$dir could not be written"
}

# Before it has joined, a machine knows the key of releases from this script: who sent that decides anyway, but the
# release may lie with somebody else. The Node of the release can not vouch for itself, so it is OpenSSL that looks.
check_first_signature() {
  release_key='@release-key@'
  matches "$release_key" '^[A-Za-z0-9_-]{43}$' || return 0
  case $(openssl version 2>/dev/null) in
    'OpenSSL '[3-9].* | 'OpenSSL '[1-9][0-9].*) ;;
    *)
      say signature "not checked, for want of OpenSSL 3: every byte is checked against what $url says"
      return 0
      ;;
  esac
  sed '$d' "$work/manifest" >"$work/signed"
  sed -n '$s/^signature \([A-Za-z0-9_-]*\)$/\1==/p' "$work/manifest" | tr '_-' '/+' | openssl base64 -d -A >"$work/signature"
  # What comes before the 32 bytes of an Ed25519 key that stands for itself.
  printf -- '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA%s=\n-----END PUBLIC KEY-----\n' \
    "$(printf '%s' "$release_key" | tr '_-' '/+')" >"$work/release-key.pem"
  openssl pkeyutl -verify -pubin -inkey "$work/release-key.pem" -rawin -in "$work/signed" -sigfile "$work/signature" >/dev/null 2>&1 ||
    fail "the release is not signed by the key of the control plane at $url: nothing was installed" \
      "whoever runs it: npm run release there, and look who may write where releases lie"
  say signature "good, by the key of the control plane"
}

# An agent that has joined knows the key of its control plane's releases: a newer one must be signed by it.
check_signature() {
  if ! [ -f "$dir/state/identity.json" ] || ! [ -x "$dir/current/node" ]; then
    check_first_signature
    return 0
  fi
  "$dir/current/node" -e '
    const { readFileSync } = require("node:fs");
    const { verify } = require("node:crypto");
    const key = JSON.parse(readFileSync(process.argv[1], "utf8")).releaseKey;
    const [, text, signature] = /^([^]*\n)signature (\S+)\n$/.exec(readFileSync(process.argv[2], "utf8")) ?? [];
    const jwk = { kty: "OKP", crv: "Ed25519", x: key };
    const ok = key === undefined ||
      (text !== undefined && verify(null, text, { key: jwk, format: "jwk" }, Buffer.from(signature, "base64url")));
    process.exit(ok ? 0 : 1);
  ' "$dir/state/identity.json" "$work/manifest" ||
    fail "the release is not signed by the key that this agent got when it joined: nothing was changed" \
      "if the control plane was made anew: $dir/bin/causeway-agent uninstall, and join again"
}

settings() {
  printf "CAUSEWAY_URL='%s'\nDOCKER_HOST='%s'\n" "$url" "$docker"
  [ -z "$pin" ] || printf "CAUSEWAY_PIN='%s'\n" "$pin"
  [ -z "$name" ] || printf "CAUSEWAY_AGENT_NAME='%s'\n" "$name"
  for each in $way; do
    value=$(value_of "$each")
    [ -z "$value" ] || printf "%s='%s'\n" "$each" "$value"
  done
}

install_files() {
  mkdir -p "$dir/bin" "$dir/state"
  chmod 755 "$dir/bin"
  chmod 700 "$dir/state"
  if [ -z "$token" ] && ! [ -f "$dir/state/identity.json" ] && ! [ -f "$dir/join-token" ]; then
    fail "this machine has not joined yet, and no join token was given" "on the control plane: causeway agent token create"
  fi
  if [ -n "$token" ] && ! [ -f "$dir/state/identity.json" ]; then
    (umask 077 && printf '%s\n' "$token" >"$dir/join-token")
  fi
  # A proxy may want a password.
  (umask 077 && settings >"$work/agent.env")
  if ! cmp_files "$work/agent.env" "$dir/agent.env"; then
    mv "$work/agent.env" "$dir/agent.env"
    changed=yes
  fi
  if ! cmp_files "$dir/versions/$version/causeway-agent" "$dir/bin/causeway-agent"; then
    cp "$dir/versions/$version/causeway-agent" "$dir/bin/causeway-agent.new"
    mv "$dir/bin/causeway-agent.new" "$dir/bin/causeway-agent"
    changed=yes
  fi
  if [ "$(readlink "$dir/current" 2>/dev/null)" != "versions/$version" ]; then
    rm -f "$dir/trial" "$dir/current.new"
    ln -s "versions/$version" "$dir/current.new"
    mv -T "$dir/current.new" "$dir/current"
    changed=yes
  fi
  say installed "$dir"
}

# Only when this version runs: one that runs gives files of its directory to each container that it starts.
sweep_versions() {
  for each in "$dir"/versions/*; do
    [ "$each" = "$dir/versions/$version" ] || [ "$(readlink "$dir/previous" 2>/dev/null)" = "versions/${each##*/}" ] || rm -rf "$each"
  done
}

cmp_files() { [ -f "$2" ] && [ "$(sum_of "$1")" = "$(sum_of "$2")" ]; }

unit=/etc/systemd/system/causeway-agent.service

install_service() {
  [ "$service" = yes ] && [ "$root" = yes ] && [ -d /run/systemd/system ] && have systemctl || return 0
  cat >"$work/unit" <<END
[Unit]
Description=Causeway agent
After=network-online.target docker.service
Wants=network-online.target

[Service]
ExecStart=$dir/bin/causeway-agent run
Restart=always
RestartSec=5
RestartPreventExitStatus=64 77
KillMode=mixed
TimeoutStopSec=30

[Install]
WantedBy=multi-user.target
END
  if ! cmp_files "$work/unit" "$unit"; then
    mv "$work/unit" "$unit"
    chmod 644 "$unit"
    systemctl daemon-reload
    changed=yes
  fi
  systemctl enable causeway-agent >/dev/null 2>&1
  say service "$unit"
}

start_agent() {
  if [ "$start" = no ]; then
    say start "with: $dir/bin/causeway-agent run (in the foreground), or start"
    return 0
  fi
  agent=$dir/bin/causeway-agent
  if "$agent" is-running && [ "$changed" = no ] && status_has "\"version\":\"$version\""; then
    say running "nothing to do"
    return 0
  fi
  if "$agent" is-running; then "$agent" stop; fi
  rm -f "$dir/state/status.json"
  "$agent" start
  wait_connected
}

# What the agent last said of itself has this text.
status_has() { [ -f "$dir/state/status.json" ] && tr -d ' \n' <"$dir/state/status.json" | grep -Fq "$1"; }

wait_connected() {
  left=90
  while [ "$left" -gt 0 ]; do
    if status_has '"tunnel":{"state":"connected"'; then
      say connected "to $url as $(sed -n 's/.*"agentId": *"\([^"]*\)".*/\1/p' "$dir/state/status.json")"
      return 0
    fi
    if ! "$agent" is-running; then
      "$agent" log >&2 || true
      fail "the agent ended; its last words are above"
    fi
    sleep 1
    left=$((left - 1))
  done
  "$agent" log >&2 || true
  fail "the agent runs, but is not connected after 90 s; its last words are above" "$agent status"
}

main() {
  read_options "$@"
  check_machine
  prepare_pins
  changed=no
  umask 022
  mkdir -p "$dir" 2>/dev/null || fail "$dir can not be made" "run this as root, or: --dir DIR"
  exec 9>"$dir/install.lock"
  flock -n -E 75 9 || {
    [ $? -ne 75 ] || fail "another installation into $dir is under way"
    fail "flock does not work here" "apt-get install util-linux"
  }
  room "$dir" 32
  work=$(mktemp -d "$dir/.install.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM HUP
  fetch_release
  install_files
  install_service
  # What is started now must not hold the lock of the installation.
  exec 9>&-
  start_agent
  [ "$start" = no ] || sweep_versions
  say remove "with: $dir/bin/causeway-agent uninstall"
}

main "$@"
