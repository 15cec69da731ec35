#!/usr/bin/env bash
# nat-lab.sh - "the internet" inside network namespaces, for NAT/bridge/CNI acceptance tests.
#
#   nat-lab.sh [selftest]             up, assert everything, down (default)
#   nat-lab.sh run  CMD [ARG...]      up, run CMD inside the lab's host netns with NATLAB_* exported, down (always)
#   nat-lab.sh up | down | status     manual control; `up` prints KEY=VALUE lines
#   nat-lab.sh host CMD [ARG...]      run CMD inside the lab's host netns
#   nat-lab.sh inet CMD [ARG...]      run CMD inside the lab's internet netns
#
#                 host netns (router)                  internet netns
#  [c1]--veth--+                     192.0.2.2/24  192.0.2.1/24
#              br0 10.99.0.1/24 --- up0 ----------- peer0 --- lo: 198.51.100.10, 8.8.8.8
#  [c2]--veth--+   fd99::1/64      2001:db8:2::2  2001:db8:2::1   lo: 2001:db8:100::10
#
# The internet netns has NO route back to the container subnets, so a reply proves
# that the source was rewritten; its echo servers answer with the source they saw:
#   TCP :80  -> HTTP 200, body "<src-ip> <src-port>\n"      (v4 and v6)
#   UDP :9   -> "<src-ip> <src-port>\n"
#   UDP :53  -> DNS: A example.test = 198.51.100.10, AAAA = 2001:db8:100::10, else NXDOMAIN
# Nothing outside the created namespaces is touched. Needs root, iproute2, python3,
# nft or iptables, ping (busybox's will do); dig optional.
#
# Options (environment):
#   NATLAB_ID=x         suffix that makes parallel labs independent  (default: PID; "up" uses 0)
#   NATLAB_CONTAINERS=n bridge + containers made by the lab itself: 0 = bare host netns + internet
#                       only (the tool under test makes the bridge)   (default 2)
#   NATLAB_NAT=nft|iptables|iptables-legacy|none                      (default nft)
#   NATLAB_FORWARD=1|0  initial ip_forward in the host netns          (default 1; 0 = tool must set it)
#   NATLAB_IPV6=1|0                                                   (default 1)
#   NATLAB_MTU=n        MTU of the uplink                             (default 1500)
set -euo pipefail

cmd=${1:-selftest}; [ $# -gt 0 ] && shift
case $cmd in up|down|status|host|inet) id=${NATLAB_ID:-0};; *) id=${NATLAB_ID:-$$};; esac
n=${NATLAB_CONTAINERS:-2} nat=${NATLAB_NAT:-nft} fwd=${NATLAB_FORWARD:-1} v6=${NATLAB_IPV6:-1} mtu=${NATLAB_MTU:-1500}
H=natlab-$id-host I=natlab-$id-inet
state=${TMPDIR:-/tmp}/natlab-$id
S4=198.51.100.10 S4B=8.8.8.8 S6=2001:db8:100::10 UP4=192.0.2.2 UP6=2001:db8:2::2

die() { echo "nat-lab: $*" >&2; exit 1; }
# nsenter, not `ip netns exec`: the latter remounts /sys and hides the cgroups
h() { nsenter --net="/run/netns/$H" -- "$@"; }
i() { nsenter --net="/run/netns/$I" -- "$@"; }
# iputils' ping where there is one; busybox has its own
ping=ping; command -v ping >/dev/null || ping="busybox ping"
c() { local k=$1; shift; nsenter --net="/run/netns/natlab-$id-c$k" -- "$@"; }

server() { cat <<'PY'
import socket, socketserver, struct, threading, sys
class T(socketserver.ThreadingTCPServer):
    allow_reuse_address = True; daemon_threads = True; request_queue_size = 1024
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); super().server_bind()
def src(a): return a[0].removeprefix('::ffff:'), a[1]
class H(socketserver.StreamRequestHandler):
    timeout = 5
    def handle(self):
        try:
            while self.rfile.readline().strip(): pass
        except OSError: return
        b = ('%s %d\n' % src(self.client_address)).encode()
        self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n' % len(b) + b)
def udp(port, fn):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # answer from the address that was asked (several addresses on lo)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    s.bind(('::', port))
    def loop():
        while True:
            d, anc, _, a = s.recvmsg(4096, 256)
            r = fn(d, a)
            pk = [(l, t, v) for l, t, v in anc if l == socket.IPPROTO_IPV6 and t == socket.IPV6_PKTINFO]
            pk = [(l, t, v[:16] + b'\0\0\0\0') for l, t, v in pk]
            if r:
                try: s.sendmsg([r], pk, 0, a)
                except OSError as e: print('sendmsg', e, file=sys.stderr)
    threading.Thread(target=loop, daemon=True).start()
def dns(d, a):
    try:
        q = d[12:]; p = 0; labels = []
        while q[p]: labels.append(q[p+1:p+1+q[p]].decode().lower()); p += q[p] + 1
        qt, = struct.unpack('!H', q[p+1:p+3]); q = q[:p+5]; name = '.'.join(labels)
        ans = b''
        if name == 'example.test':
            rd = {1: socket.inet_aton('198.51.100.10'), 28: socket.inet_pton(socket.AF_INET6, '2001:db8:100::10')}.get(qt)
            if rd: ans = b'\xc0\x0c' + struct.pack('!HHIH', qt, 1, 60, len(rd)) + rd
            rc = 0
        else: rc = 3
        return d[:2] + struct.pack('!HHHHH', 0x8580 | rc, 1, 1 if ans else 0, 0, 0) + q + ans
    except Exception: return None
udp(9, lambda d, a: ('%s %d\n' % src(a)).encode()); udp(53, dns)
t = T(('::', 80), H)
open(sys.argv[1], 'w').write('ok'); t.serve_forever()
PY
}

down() {
  local ns p
  [ -r "$state/server.pid" ] && kill "$(cat "$state/server.pid")" 2>/dev/null || true
  for ns in $(ip netns list | awk '{print $1}' | grep -E "^natlab-$id-" || true); do
    # only processes left inside namespaces this lab made
    for p in $(ip netns pids "$ns" 2>/dev/null); do kill -9 "$p" 2>/dev/null || true; done
    ip netns del "$ns" 2>/dev/null || true
  done
  rm -rf "$state"
}

nat_rules() {
  case $nat in
    none) ;;
    nft)
      h nft -f - <<NFT
table inet natlab {
  chain post { type nat hook postrouting priority srcnat;
    ip saddr 10.99.0.0/24 oifname "up0" masquerade
    $( [ "$v6" != 1 ] || echo 'ip6 saddr fd99::/64 oifname "up0" masquerade' )
  }
}
NFT
      ;;
    iptables|iptables-legacy|iptables-nft)
      h "$nat" -w -t nat -A POSTROUTING -s 10.99.0.0/24 -o up0 -j MASQUERADE
      if [ "$v6" = 1 ]; then h "${nat/iptables/ip6tables}" -w -t nat -A POSTROUTING -s fd99::/64 -o up0 -j MASQUERADE; fi ;;
    *) die "NATLAB_NAT=$nat?";;
  esac
}

up() {
  [ "$(id -u)" = 0 ] || die "needs root"
  ip netns list | grep -qE "^natlab-$id-" && die "lab $id exists (nat-lab.sh down)"
  mkdir -p "$state"; chmod 700 "$state"
  local ns k
  for ns in "$H" "$I"; do ip netns add "$ns"; ip -n "$ns" link set lo up; done
  # uplink: created inside the namespaces, never in the caller's
  ip -n "$H" link add up0 mtu "$mtu" type veth peer name peer0 mtu "$mtu" netns "$I"
  ip -n "$H" addr add $UP4/24 dev up0; ip -n "$I" addr add 192.0.2.1/24 dev peer0
  ip -n "$I" addr add $S4/32 dev lo; ip -n "$I" addr add $S4B/32 dev lo
  if [ "$v6" = 1 ]; then
    h sysctl -qw net.ipv6.conf.up0.accept_dad=0; i sysctl -qw net.ipv6.conf.peer0.accept_dad=0
    ip -n "$H" addr add $UP6/64 dev up0 nodad; ip -n "$I" addr add 2001:db8:2::1/64 dev peer0 nodad
    ip -n "$I" addr add $S6/128 dev lo nodad
  fi
  ip -n "$H" link set up0 up; ip -n "$I" link set peer0 up
  ip -n "$H" route add default via 192.0.2.1
  [ "$v6" != 1 ] || ip -n "$H" -6 route add default via 2001:db8:2::1
  h sysctl -qw net.ipv4.ip_forward="$fwd"
  [ "$v6" != 1 ] || h sysctl -qw net.ipv6.conf.all.forwarding="$fwd"
  # the server
  server > "$state/server.py"
  i setsid python3 "$state/server.py" "$state/ready" >"$state/server.log" 2>&1 </dev/null &
  echo $! > "$state/server.pid"
  for k in $(seq 100); do [ -e "$state/ready" ] && break; sleep 0.05; done
  [ -e "$state/ready" ] || die "server did not start: $(cat "$state/server.log")"
  # bridge + containers
  if [ "$n" -gt 0 ]; then
    ip -n "$H" link add br0 type bridge; ip -n "$H" addr add 10.99.0.1/24 dev br0
    [ "$v6" != 1 ] || ip -n "$H" addr add fd99::1/64 dev br0 nodad
    ip -n "$H" link set br0 up
    for k in $(seq "$n"); do
      ip netns add "natlab-$id-c$k"; ip -n "natlab-$id-c$k" link set lo up
      ip -n "$H" link add "v$k" type veth peer name eth0 netns "natlab-$id-c$k"
      ip -n "$H" link set "v$k" master br0 up
      ip -n "natlab-$id-c$k" addr add "10.99.0.$((k+1))/24" dev eth0
      [ "$v6" != 1 ] || ip -n "natlab-$id-c$k" addr add "fd99::$((k+1))/64" dev eth0 nodad
      ip -n "natlab-$id-c$k" link set eth0 up
      ip -n "natlab-$id-c$k" route add default via 10.99.0.1
      [ "$v6" != 1 ] || ip -n "natlab-$id-c$k" -6 route add default via fd99::1
    done
    nat_rules
  fi
}

vars() { cat <<EOV
NATLAB_ID=$id
NATLAB_HOST_NS=$H
NATLAB_INET_NS=$I
NATLAB_UPLINK=up0
NATLAB_UPLINK_IP=$UP4
NATLAB_UPLINK_IP6=$UP6
NATLAB_SERVER_IP=$S4
NATLAB_SERVER_IP2=$S4B
NATLAB_SERVER_IP6=$S6
NATLAB_DNS=$S4
NATLAB_CONTAINERS=$n
EOV
}

http() { # netns-fn url-host -> body, no curl needed
  local fn=$1; shift
  $fn python3 - "$@" <<'PY'
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 80), 3)
s.sendall(b'GET / HTTP/1.0\r\n\r\n'); b = b''
while True:
    x = s.recv(4096)
    if not x: break
    b += x
print(b.split(b'\r\n\r\n', 1)[1].decode().strip())
PY
}

selftest() {
  local fails=0
  ok() { echo "ok   - $1"; }; no() { echo "FAIL - $1"; fails=$((fails+1)); }
  t() { local d=$1; shift; if "$@" >/dev/null 2>&1; then ok "$d"; else no "$d"; fi; }
  nt() { local d=$1; shift; if "$@" >/dev/null 2>&1; then no "$d"; else ok "$d"; fi; }
  t  "host netns pings internet $S4" h $ping -c1 -W2 $S4
  t  "container c1 pings container c2" c 1 $ping -c1 -W2 10.99.0.3
  t  "container c1 pings its gateway" c 1 $ping -c1 -W2 10.99.0.1
  t  "container c1 pings internet $S4 (NAT)" c 1 $ping -c1 -W2 $S4
  t  "container c2 pings internet 8.8.8.8 (NAT)" c 2 $ping -c1 -W2 $S4B
  seen=$(http "c 1" $S4 | cut -d' ' -f1); [ "$seen" = $UP4 ] && ok "server saw TCP source $seen = uplink address" || no "server saw TCP source '$seen', want $UP4"
  nt "internet cannot reach container address directly" i $ping -c1 -W1 10.99.0.2
  if [ "$v6" = 1 ]; then
    t "container c1 pings container c2 over IPv6" c 1 $ping -6 -c1 -W2 fd99::3
    t "container c1 pings internet $S6 (NAT66)" c 1 $ping -6 -c1 -W2 $S6
    seen=$(http "c 1" $S6 | cut -d' ' -f1); [ "$seen" = $UP6 ] && ok "server saw IPv6 source $seen = uplink address" || no "server saw IPv6 source '$seen', want $UP6"
  fi
  if command -v dig >/dev/null; then
    [ "$(c 1 dig +short +time=2 +tries=1 @$S4 example.test)" = $S4 ] && ok "DNS through NAT: example.test" || no "DNS through NAT"
  fi
  # negative control: without the rule the same ping must fail
  case $nat in
    nft) h nft delete table inet natlab;;
    none) ;;
    *) h "$nat" -w -t nat -F; [ "$v6" != 1 ] || h "${nat/iptables/ip6tables}" -w -t nat -F;;
  esac
  h conntrack -F >/dev/null 2>&1 || true
  nt "negative control: no masquerade rule -> no internet" c 1 $ping -c1 -W1 $S4
  t  "negative control: container-to-container still works" c 1 $ping -c1 -W2 10.99.0.3
  [ "$fails" = 0 ] && echo "nat-lab: all passed" || { echo "nat-lab: $fails failed"; return 1; }
}

case $cmd in
  up) trap '[ $? = 0 ] || down' EXIT; up; vars;;
  down) down;;
  status) ip netns list | grep -E "^natlab-$id-" || { echo "lab $id is down"; exit 1; }; vars;;
  host) h "$@";;
  inet) i "$@";;
  run) trap down EXIT; trap 'exit 130' INT TERM; up; set -a; eval "$(vars)"; set +a; h "$@";;
  selftest) trap down EXIT; trap 'exit 130' INT TERM; [ "$n" -ge 2 ] || n=2; [ "$nat" != none ] || nat=nft; up; selftest;;
  *) die "unknown command $cmd";;
esac
