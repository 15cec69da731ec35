#!/usr/bin/env bash
# Runs containers of the built mydocker in Debian's kernels under qemu, with pure cgroup v2: what newer kernels have and these have not must
# have a fallback, and what version 2 does must be what version 1 did.
#
#   tools/lab/kernels.sh [KERNEL...]     KERNEL: a .deb of a kernel, or 6.1, 6.12 (both unless given; apt fetches them)
#
# needs what vm-cgroup2.sh needs, and target/debug/mydocker (or MYDOCKER)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
binary=${MYDOCKER:-$root/target/debug/mydocker}
[ -x "$binary" ] || { echo "kernels: build $binary first, or name another as MYDOCKER" >&2; exit 1; }
cache=${VMCACHE:-${TMPDIR:-/tmp}/vmtest-cache}
# shellcheck source=tools/lab/kernel-package.sh
source "$here/kernel-package.sh"
[ $# -gt 0 ] || set -- 6.1 6.12

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/root_fs/build" "$work/rootfs" >/dev/null
tar -C "$work" -cf "$work/rootfs.tar" rootfs
objcopy --strip-debug "$binary" "$work/mydocker"
files=(-f "$work/mydocker" -f "$work/rootfs.tar")
cat > "$work/run.sh" <<'RUN'
set -e
# The first root cannot be pivoted away from: a tree of our own, on a tmpfs, is the host.
mkdir /n; mount -t tmpfs host /n; cd /n
mkdir -p bin proc sys dev tmp run etc root var/lib
cp -a /bin/. bin; cp /etc/passwd etc
cp /t/mydocker bin; chmod 755 bin/mydocker
tar -C /n -xf /t/rootfs.tar
mount --rbind /proc proc; mount --rbind /sys sys; mount --rbind /dev dev
cat > check <<'CHECK'
set -e
export MYDOCKER_ROOTFS=/rootfs PATH=/bin
expect() { # WHAT WANTED GOT
  if [ "$2" = "$3" ]; then echo "ok $1"; else echo "FAILED $1: wanted <$2>, got <$3>"; cat /tmp/told; dmesg | tail -5; exit 1; fi
}
expect "an overlay" new "$(mydocker run --network none root_fs sh -c 'echo new >/etc/motd; cat /etc/motd')"
expect "its image is unchanged" "" "$(cat /rootfs/etc/motd 2>/dev/null)"
expect "ids" "0:0 5:5" "$(mydocker -aU --network none sh -c 'touch /x /y; chown 5:5 /y; echo $(stat -c %u:%g /x /y)' 2>/tmp/told)"
# Where the kernel cannot map the ids of what lies below.
expect "no word but that of the copy" "" "$(grep -v 'runs on a copy of' /tmp/told)"
expect "a bind, read-only" "Read-only file system" "$(mkdir -p /tmp/d; mydocker run --network none -v /tmp/d:/d:ro root_fs touch /d/x 2>&1 | grep -o 'Read-only.*')"
expect "limits" 64 "$(mydocker -ac --network none sh -c 'cat /sys/fs/cgroup/pids.max')"
expect "a device" "1:b" "$(mydocker run --network none --device /dev/kmsg:/dev/log root_fs stat -c %t:%T /dev/log)"
expect "another's processes" 0 "$(mydocker run --network none --pid host --privileged root_fs true; echo $?)"
cat >compose.yaml <<'YAML'
name: old
services:
  one: {image: root_fs, init: true, network_mode: none, tty: true, volumes: ["data:/d"], command: [sleep, infinity]}
  two: {image: root_fs, network_mode: none, depends_on: [one], read_only: true, mem_limit: 64m, command: [sh, -c, 'echo two says']}
volumes: {data: {}}
YAML
expect "a project" 0 "$(mydocker compose -f compose.yaml up -d >/tmp/told 2>&1; echo $?)"
expect "a command in it" 7 "$(mydocker compose -f compose.yaml exec -T one sh -c 'touch /d/x; exit 7' >/tmp/told 2>&1; echo $?)"
expect "its logs" "two says" "$(mydocker compose -f compose.yaml logs --no-log-prefix two)"
expect "its end" 0 "$(mydocker compose -f compose.yaml down -v -t 1 >/tmp/told 2>&1; echo $?)"
# Limits of version 2.
groups=/sys/fs/cgroup/mydocker
expect "the hierarchy" cgroup2 "$(mydocker run --network none root_fs awk '$2 == "/sys/fs/cgroup" { print $3 }' /proc/mounts)"
expect "what runs out of memory is killed" 137 "$(mydocker run --network none -m 16m root_fs tail /dev/zero >/tmp/told 2>&1; echo $?)"
expect "and told of" 1 "$(grep -c 'ran out of memory' /tmp/told)"
cat >bomb.yaml <<'YAML'
name: bomb
services:
  bomb: {image: root_fs, network_mode: none, pids_limit: 30, stop_grace_period: 1s, command: [sh, -c, 'b() { b | b & }; b; sleep 600']}
YAML
mydocker compose -f bomb.yaml up -d >/tmp/told 2>&1
bomb=$(echo "$groups"/bomb/????????????*/)
for _ in $(seq 100); do [ "$(cat "$bomb/pids.current")" -lt 25 ] || break; usleep 50000; done
expect "a fork bomb is held" yes "$(count=$(cat "$bomb/pids.current"); [ "$count" -ge 25 ] && [ "$count" -le 30 ] && echo yes)"
expect "and killed" "0 0" "$(mydocker compose -f bomb.yaml down >/tmp/told 2>&1; echo $?) $(cat "$bomb/pids.current" 2>/dev/null | wc -l)"
expect "a device that is not its own" "Operation not permitted" "$(mydocker run --network none root_fs sh -c 'mknod /m c 1 1 && head -c 1 /m' 2>&1 | grep -o 'Operation not permitted')"
cat >weights.yaml <<'YAML'
name: weights
x-spin: &spin {image: root_fs, network_mode: none, cpuset: "0", command: [sh, -c, 'while :; do :; done']}
services:
  heavy: {<<: *spin, cpu_shares: 3072, blkio_config: {weight: 300}}
  light: {<<: *spin, cpu_shares: 768}
YAML
used() { awk '$1 == "usage_usec" { print $2 }' "$1/cpu.stat"; }
# A service's cgroup is found by its weight: 3072 shares are 240, 768 are 80, as in runc 1.3 and crun 1.23.
of_weight() { for dir in "$groups"/weights/*/; do [ "$(cat "$dir/cpu.weight" 2>/dev/null)" != "$1" ] || echo "$dir"; done; }
mydocker compose -f weights.yaml up -d >/tmp/told 2>&1
heavy=$(of_weight 240) light=$(of_weight 80)
expect "weights" yes "$([ -d "$heavy" ] && [ -d "$light" ] && echo yes)"
from_heavy=$(used "$heavy") from_light=$(used "$light")
sleep 8
to_heavy=$(used "$heavy") to_light=$(used "$light")
ratio=$(( (to_heavy - from_heavy) * 10 / (to_light - from_light) ))
echo "CPU time by weights, tenths: $ratio"
expect "CPU time goes by weights, about 3 to 1" yes "$([ "$ratio" -ge 24 ] && [ "$ratio" -le 38 ] && echo yes)"
expect "a weight for I/O" "default 300" "$(head -n 1 "$heavy/io.bfq.weight")"
mydocker compose -f weights.yaml down -t 0 >/tmp/told 2>&1

# The shim is the parent of all containers; without it the keeper sees how they end.
cat >orphans.yaml <<'YAML'
name: orphans
services:
  seven: {image: root_fs, network_mode: none, command: [sh, -c, 'until [ -e /go/now ]; do usleep 50000; done; exit 7'], volumes: ["/tmp/go:/go"]}
YAML
mkdir -p /tmp/go
mydocker compose -f orphans.yaml up -d >/tmp/told 2>&1
for pid in $(cat "$groups/orphans/supervision/cgroup.procs"); do
  case $(cat "/proc/$pid/comm") in mydocker-shim*) kill -9 "$pid" ;; esac
done
touch /tmp/go/now
for _ in $(seq 100); do
  state=$(mydocker compose -f orphans.yaml ps -a --format json 2>/tmp/told | grep -o '"ExitCode":[0-9]*,.*"State":"[a-z]*"' | sed 's/,.*,/ /')
  case $state in *exited*) break ;; esac
  usleep 100000
done
expect "a status after the shim's death" '"ExitCode":7 "State":"exited"' "$state"
mydocker compose -f orphans.yaml down >/tmp/told 2>&1

# A bundle's life.
mkdir -p bundle && mydocker oci spec --bundle bundle
sed -i 's/"terminal": true/"terminal": false/; s|"path": "rootfs"|"path": "/rootfs"|; s|"sh"|"sleep", "60"|' bundle/config.json
expect "a bundle" 0 "$(mydocker oci run -d -b bundle b1 </dev/null >/tmp/told 2>&1; echo $?)"
expect "it is paused" "0 1" "$(mydocker oci pause b1 >/tmp/told 2>&1; echo $?) $(cat "$groups/b1/cgroup.freeze")"
expect "and says so" paused "$(mydocker oci state b1 | grep -o paused)"
expect "what is paused can be deleted" 0 "$(mydocker oci delete --force b1 >/tmp/told 2>&1; echo $?)"
expect "nothing is left" "" "$(ls "$groups" 2>/dev/null)"
CHECK
# A tree that was merely changed into has no user namespaces (clone(2), EPERM).
mount --move . /; exec chroot . /bin/sh /check
RUN
failed=0
for wanted; do
  deb=$(kernel_package "$wanted")
  echo "==> $(basename "$deb")"
  VMCACHE=$cache "$here/vm-cgroup2.sh" -k "$deb" -m overlay,bfq -t "${PATIENCE:-600}" -M 1024 "${files[@]}" "$work/run.sh" || failed=1
done
exit $failed
