#!/usr/bin/env bash
# The package as a server meets it: real systemd machines on a bridge of their own, and the binary in an empty root.
# Prints what it saw; the last line is `N passed, 0 failed`. Needs root, and the commands below; where they or the
# right to boot a machine are missing it says SKIPPED, and exits with 77 so that nobody takes it for a success.
# Usage: tests/appliance/run.sh target/package/llmchat_*.deb   everything
#        tests/appliance/run.sh target/package/llmchat         only what needs no machine
# Everything lives in target/appliance/: the Debian root, made once, and a directory for each run. A run has its own
# process, network and mount namespaces: when it ends, however it ends, the kernel ends its machines and its bridge.
set -Eeuo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=$(cd "$here/../.." && pwd)/target/appliance
given=$(realpath "$1")

skip() {
  printf '\n!!!! SKIPPED: %s\n!!!! The package was NOT tested on machines.\n' "$1" >&2
  exit 77
}

# Outside of the namespaces, where the network is: what must be fetched.
prepare() {
  [ "$(id -u)" = 0 ] || skip "tests/appliance needs root"
  local command
  for command in curl openssl ip unshare nsenter setpriv flock dpkg-deb lintian debootstrap systemd-nspawn; do
    command -v "$command" >/dev/null || skip "the command $command is missing"
  done
  unshare --mount --net --pid --fork --mount-proc true 2>/dev/null || skip "this host allows no namespaces"
  mkdir -p "$home"
  exec 9>"$home/lock"
  flock -w 900 9 || { echo "another run holds $home/lock" >&2; exit 1; }
  rm -rf --one-file-system "$home"/run.*
  [[ $given != *.deb ]] || machine_root "$home/root"
}

if [ "${2-}" != --inside ]; then
  . "$here/machines.sh"
  prepare
  work=$(mktemp -d "$home/run.XXXXXX")
  trap 'rm -rf --one-file-system "$work"' EXIT
  # Who kills this shell kills the namespaces, and all that is in them.
  LLMCHAT_APPLIANCE_WORK=$work setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc \
    timeout --kill-after=10 1200 "$0" "$given" --inside
  exit
fi

work=$LLMCHAT_APPLIANCE_WORK
. "$here/check.sh"
. "$here/client.sh"
. "$here/machines.sh"
. "$here/binary.sh"
. "$here/package.sh"
. "$here/service.sh"
. "$here/powercut.sh"
. "$here/three.sh"

trap 'echo "the test itself broke off at $BASH_SOURCE:$LINENO" >&2' ERR
ip link set lo up
# What nspawn notes of its machines is ours alone, too.
mkdir -p /run/systemd
mount -t tmpfs none /run/systemd
if [[ $given == *.deb ]]; then
  dpkg-deb -x "$given" "$work/unpacked"
  binary=$work/unpacked/usr/bin/llmchat
else
  binary=$given
fi
binary_alone
if [[ $given == *.deb ]]; then
  package_file "$given"
  bridge_up
  simulator_start
  machine_boot one "$home/root" 10.99.0.1
  package_installs "$given"
  service_runs
  service_guards
  power_cuts
  package_upgrades "$given"
  package_leaves "$given"
  machine_power_cut one
  three_machines "$given"
else
  echo "a binary was given, no package: no machine was started"
fi
summary
