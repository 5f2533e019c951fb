#!/bin/sh
# Builds causeway-init, on Debian 13.
#   build.sh [ARCH]             bin/causeway-init-ARCH, reproducibly: musl-tools, gcc-14; for aarch64 gcc-14-aarch64-linux-gnu
#   build.sh --check [ARCH]     builds again elsewhere and compares the bytes with the committed file
#   build.sh --sanitize OUT     the whole init with AddressSanitizer and UndefinedBehaviorSanitizer, for tests
#   build.sh --fuzz TARGET OUT  fuzz/TARGET.c (wire, ring, sftp, zmtp) with the sanitizers: by clang's libFuzzer where it is
#                               installed, else by gcc with a driver that mutates blindly. Both take -max_total_time=S
# ARCH is x86_64 (default) or aarch64.
set -eu
cd "$(dirname "$0")"
pure='jupyter.c ring.c sftp-wire.c sha256-hardware.c sha256.c wire.c zmtp.c'
tools='backlog.c connect.c descriptor.c folder.c kernel-process.c kernel.c kernelspecs.c listen.c log.c parked.c relay.c sftp-files.c sftp.c sockets.c tools.c'
sources="causeway-init.c handshake.c kill.c link.c loop.c process.c $pure send.c spawn.c stream.c $tools transport.c"
standard='-std=gnu17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wno-sign-conversion -Werror'
# Nothing of the machine gets into the file: no build id, no path, no time, and one order of the sources.
small="-static -Os -s -fno-ident -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections
  -ffile-prefix-map=$PWD=. -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,noexecstack"
sanitizers='-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all'

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Debian's musl for aarch64, from Debian's own archive with apt's own checks; this machine's package state is not touched.
fetch_musl_aarch64() {
  mkdir -p "$scratch/lists/partial" "$scratch/archives/partial"
  : > "$scratch/status"
  apt="apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root
    -o Dir::State::Lists=$scratch/lists -o Dir::Cache=$scratch -o Dir::State::status=$scratch/status"
  $apt update
  (cd "$scratch" && $apt download "musl-dev:arm64=$(dpkg-query -W -f '${Version}' musl-dev)")
  dpkg-deb -x "$scratch"/musl-dev_*.deb "$scratch/musl"
}

build_x86_64() {
  REALGCC=gcc-14 musl-gcc $standard $small $sources -o "$1"
}

# What the wrapper musl-gcc does for the machine's own architecture.
build_aarch64() {
  fetch_musl_aarch64
  gcc=aarch64-linux-gnu-gcc-14
  lib=$scratch/musl/usr/lib/aarch64-linux-musl
  $gcc $standard $small -nostdinc -isystem "$scratch/musl/usr/include/aarch64-linux-musl" \
    -isystem "$($gcc -print-file-name=include)" -nostdlib "$lib/crt1.o" "$lib/crti.o" "$($gcc -print-file-name=crtbeginT.o)" \
    $sources "$lib/libc.a" "$($gcc -print-libgcc-file-name)" "$($gcc -print-file-name=crtend.o)" "$lib/crtn.o" -o "$1"
}

has_libfuzzer() {
  printf 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d && n > 9; }' > "$scratch/probe.c"
  clang -fsanitize=fuzzer "$scratch/probe.c" -o "$scratch/probe" 2> "$scratch/probe.txt"
}

case "${1:-x86_64}" in
  x86_64 | aarch64)
    "build_${1:-x86_64}" "bin/causeway-init-${1:-x86_64}"
    ;;
  --check)
    "build_${2:-x86_64}" "$scratch/again"
    cmp "$scratch/again" "bin/causeway-init-${2:-x86_64}"
    ;;
  --sanitize)
    gcc-14 $standard $sanitizers $sources -o "$2"
    ;;
  --fuzz)
    if has_libfuzzer; then
      clang $standard $sanitizers -fsanitize=fuzzer -Wno-missing-prototypes -I. "fuzz/$2.c" $pure -o "$3"
    else
      gcc-14 $standard $sanitizers -Wno-missing-prototypes -I. "fuzz/$2.c" fuzz/driver.c $pure -o "$3"
    fi
    ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
