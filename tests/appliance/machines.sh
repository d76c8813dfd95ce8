# Debian machines with systemd, as root on one Linux host.
bridge=br-llmchat
bridge_address=10.99.0.254

# machine_root DIR: a minimal Debian, of the release and from the mirror that this host is set up for. Made once.
machine_root() {
  [ ! -e "$1/.whole" ] || return 0
  rm -rf --one-file-system "$1"
  local codename mirror
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Codename: $codename" "Component: main" | head -n 1)
  [ -n "$mirror" ] || skip "apt knows no mirror of $codename; apt-get update?"
  echo "making a Debian root in $1"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,iproute2 \
    "$codename" "$1" "$mirror" >"$1.log" 2>&1 || { tail -n 20 "$1.log"; skip "debootstrap could not make a root"; }
  : >"$1/.whole"
}

bridge_up() {
  ip link add "$bridge" type bridge
  ip addr add "$bridge_address/24" dev "$bridge"
  ip link set "$bridge" up
}

# machine_boot NAME ROOT ADDRESS: a machine with a root of its own, on the bridge.
machine_boot() {
  mkdir -p "$work/$1" "$work/$1.own/upper" "$work/$1.own/work"
  # A layer over the one root costs nothing; where layers cannot be stacked, a copy takes some seconds.
  mount -t overlay -o "lowerdir=$2,upperdir=$work/$1.own/upper,workdir=$work/$1.own/work" none "$work/$1" 2>/dev/null ||
    cp -a --reflink=auto "$2/." "$work/$1"
  echo "$1" >"$work/$1/etc/hostname"
  machine_start "$1" "$3"
}

# machine_start NAME ADDRESS: boots what is there, as after a power cut.
machine_start() {
  # Nobody here keeps a register of machines or units: process 1 of these namespaces is the test.
  systemd-nspawn -q -D "$work/$1" -M "$1" --boot --network-bridge="$bridge" --register=no --keep-unit \
    >>"$work/$1.log" 2>&1 </dev/null &
  echo $! >"$work/$1.pid"
  within 30 machine_leader "$1" >"$work/$1.leader" || machine_failed "$1" "systemd-nspawn cannot boot a machine"
  within 60 machine_is_up "$1" || machine_failed "$1" "systemd does not come up in a machine"
  machine "$1" ip addr add "$2/24" dev host0
  machine "$1" ip link set host0 up
  : >"$work/$1.booted"
}

# A host where no machine ever booted cannot boot any; one that did not boot again is a fault.
machine_failed() {
  tail -n 20 "$work/$1.log"
  compgen -G "$work/*.booted" >/dev/null || skip "$2"
  echo "$2 again" >&2
  exit 1
}

# The machine's process 1, seen from here. The first children of nspawn only prepare it.
machine_leader() {
  local nspawn child
  nspawn=$(cat "$work/$1.pid")
  for child in $(cat "/proc/$nspawn/task/$nspawn/children"); do
    if grep -q '^NSpid:.*[[:space:]]1$' "/proc/$child/status"; then
      echo "$child"
      return
    fi
  done
  return 1
}

machine_is_up() {
  local state
  state=$(machine "$1" systemctl is-system-running 2>&1) || true
  [[ $state =~ ^(running|degraded)$ ]] || { echo "$state"; machine "$1" systemctl list-jobs --no-legend; return 1; }
}

# machine NAME COMMAND...: runs a command inside, with an environment of the machine's.
machine() {
  local leader
  leader=$(cat "$work/$1.leader")
  shift
  timeout 120 nsenter -t "$leader" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive "$@"
}

# machine_write NAME PATH: standard input becomes a file inside, mode 0644.
machine_write() { machine "$1" tee "$2" >/dev/null; }

# Waits until a machine has stopped that was told to. A reboot is that and another start: nspawn leaves it to who started it.
machine_ends() {
  within 90 has_ended "$(cat "$work/$1.pid")"
  wait "$(cat "$work/$1.pid")" 2>/dev/null || true
}

# The plug is pulled: every process of the machine ends at once, nothing is closed. What its kernel still held for the
# disk is not lost, because that kernel is ours; the disk's own promises are tested by the crash tests of the store.
machine_power_cut() {
  kill -9 "$(cat "$work/$1.leader")"
  wait "$(cat "$work/$1.pid")" 2>/dev/null || true
}
