#!/usr/bin/env bash
# Runs the unit tests of cgroups and devices under pure cgroup v2, in Debian's kernels under qemu: this machine's own is left alone.
#
#   tools/lab/cgroup2-tests.sh [KERNEL...]     KERNEL: a .deb of a kernel, or 6.1, 6.12 (both unless given; apt fetches them)
#
# needs what vm-cgroup2.sh needs; TESTS chooses others (`cgroup:: bpf seccomp` unless given).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
cache=${VMCACHE:-${TMPDIR:-/tmp}/vmtest-cache}
tests=${TESTS:-cgroup:: bpf seccomp}
[ $# -gt 0 ] || set -- 6.1 6.12
# shellcheck source=tools/lab/kernel-package.sh
source "$here/kernel-package.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$root"
binary=$(cargo test --locked --lib --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || { echo "cgroup2-tests: the tests do not build" >&2; exit 1; }
objcopy --strip-debug "$binary" "$work/tests"
files=(-f "$work/tests")
while read -r library; do files+=(-f "$library"); done < <(ldd "$binary" | grep -o '/[^ ]*')
loader=$(ldd "$binary" | grep -o '/[^ ]*ld-linux[^ ]*' | head -n 1)
cat > "$work/run.sh" <<EOF
chmod 755 /t/*
# The root cgroup takes processes beside controllers; a cgroup of ours below it does not.
# shellcheck disable=SC2086
exec /t/$(basename "$loader") --library-path /t /t/tests --test-threads 2 $tests
EOF

failed=0
for wanted; do
  deb=$(kernel_package "$wanted")
  echo "==> $(basename "$deb")"
  VMCACHE=$cache "$here/vm-cgroup2.sh" -k "$deb" -t "${PATIENCE:-600}" -M 1024 "${files[@]}" "$work/run.sh" || failed=1
done
exit $failed
