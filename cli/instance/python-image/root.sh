#!/bin/bash
# Makes the root file system of causeway/python in $BUILD/root and writes it as a tar archive to stdout; talk goes to
# stderr, progress ("<percent> <what>") to descriptor 3. Runs as root in its own mount and process namespaces: whatever
# ends it, its mounts and processes end with it.
# Given: BUILD, CODENAME, MIRROR, KEYRING (may be empty), PACKAGES, WORK_USER, WORK_UID, WORK_HOME; $BUILD/sources.list.
set -euo pipefail
exec 4>&1 >&2 # stdout is the archive: only tar may write there
root=$BUILD/root
say() { echo "$1 $2" >&3; }

say 0 'downloading the base system'
fetched=0
LC_ALL=C debootstrap --variant=minbase ${KEYRING:+--keyring="$KEYRING"} "$CODENAME" "$root" "$MIRROR" \
  "/usr/share/debootstrap/scripts/$CODENAME" </dev/null | while read -r line; do
  echo "$line"
  case $line in
    'I: Retrieving '*) fetched=$((fetched + 1)); ((fetched % 10)) || say $((fetched > 100 ? 15 : fetched * 15 / 100)) 'downloading the base system' ;;
    'I: Chosen extractor'*) say 15 'unpacking the base system' ;;
    'I: Configuring the base system'*) say 25 'configuring the base system' ;;
  esac
done

# The host's apt does the rest: its proxies, credentials and certificates apply and leave no trace in the root.
mount -t proc proc "$root/proc"
mkdir -p "$BUILD/lists/partial" "$root/etc/dpkg/dpkg.cfg.d"
printf 'path-exclude=/usr/share/%s/*\n' doc man locale info lintian >"$root/etc/dpkg/dpkg.cfg.d/causeway"
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io" # a build that is cut is thrown away whole
apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -o Dir::Etc::SourceList="$BUILD/sources.list" -o Dir::Etc::SourceParts=- \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=- -o Dir::State="$BUILD/apt" -o Dir::State::Lists="$BUILD/lists" \
    -o Dir::State::status="$root/var/lib/dpkg/status" -o Dir::Cache="$root/var/cache/apt" -o Dir::Log="$BUILD/log" \
    -o DPkg::Chroot-Directory="$root" -o APT::Sandbox::User=root -o APT::Status-Fd=5 "$@" 5>"$BUILD/status"
}
mkdir -p "$BUILD/apt" "$BUILD/log" "$root/var/cache/apt/archives/partial"
rm -f "$BUILD/status"; mkfifo "$BUILD/status"
exec 5<>"$BUILD/status"
while IFS=: read -r kind _ percent _ <&5; do
  case $kind in
    dlstatus) say $((35 + ${percent%%.*} * 20 / 100)) 'downloading Python and its libraries' ;;
    pmstatus) say $((55 + ${percent%%.*} * 33 / 100)) 'installing Python and its libraries' ;;
  esac
done &
meter=$!
say 30 'reading package lists'
apt update
apt upgrade -y
# shellcheck disable=SC2086
apt install -y --no-install-recommends $PACKAGES
kill $meter

chroot "$root" useradd --uid "$WORK_UID" --home-dir "$WORK_HOME" --create-home --shell /bin/bash "$WORK_USER"
umount "$root/proc"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/{doc,man,locale,info,lintian}/* \
  "$root"/etc/{resolv.conf,hostname,machine-id} "$root"/etc/dpkg/dpkg.cfg.d/unsafe-io "$root"/tmp/* "$root"/dev/*
: >"$root/etc/machine-id"
# A credential in a mirror's address is the host's own: no source at all then.
if grep -q '://[^/]*@' "$root/etc/apt/sources.list"; then : >"$root/etc/apt/sources.list"; fi
say 90 'importing the image'
tar --create --directory "$root" --numeric-owner --one-file-system --sort=name . >&4
