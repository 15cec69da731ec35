#!/usr/bin/env bash
# Runs containers of the built mydocker in one of Debian's kernels under qemu: what newer kernels have and it has not must have a fallback.
#
#   tools/lab/old-kernel.sh [KERNEL.deb]     Debian 12's own, 6.1, unless given (apt fetches it)
#
# needs what vm-cgroup2.sh needs, and target/debug/mydocker (or MYDOCKER)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
binary=${MYDOCKER:-$root/target/debug/mydocker}
[ -x "$binary" ] || { echo "old-kernel: build $binary first, or name another as MYDOCKER" >&2; exit 1; }
cache=${VMCACHE:-${TMPDIR:-/tmp}/vmtest-cache}
mkdir -p "$cache"
deb=${1:-}
if [ -z "$deb" ]; then
  package=$(apt-cache depends linux-image-amd64 | grep -o 'linux-image-[0-9][^ ]*' | head -n 1)
  compgen -G "$cache/${package}_*.deb" >/dev/null || (cd "$cache" && apt-get download -qq "$package")
  deb=$(compgen -G "$cache/${package}_*.deb" | head -n 1)
fi

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
expect "no word but that of the copy" 1 "$(wc -l </tmp/told)"
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
expect "nothing is left" "" "$(ls /sys/fs/cgroup/mydocker 2>/dev/null)"
CHECK
# A tree that was merely changed into has no user namespaces (clone(2), EPERM).
mount --move . /; exec chroot . /bin/sh /check
RUN
VMCACHE=$cache "$here/vm-cgroup2.sh" -k "$deb" -m overlay -t "${PATIENCE:-600}" -M 1024 "${files[@]}" "$work/run.sh"
