//! Bridges, names, NAT, published ports, isolation.

use std::net::Ipv4Addr;

use crate::support::{Case, Project, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        services_find_each_other_by_name: Bridge,
        names_of_stopped_services_are_unknown: Bridge,
        beyond_the_nat: Internet + Bridge,
        a_host_that_drops_forwarding: Internet + Bridge,
        networks_are_isolated: Bridge,
        published_ports: Internet + Bridge,
        a_taken_port_is_named: Bridge,
        two_services_that_want_one_port: Bridge,
        none_and_host,
        the_network_is_ready_before_the_command: Bridge,
        a_subnet_that_a_host_route_covers_is_not_taken: Bridge,
        an_asked_subnet_that_overlaps_is_refused: Bridge,
        rules_of_others_stay: Internet + Bridge,
        rules_do_not_pile_up: Bridge,
        forwarding_is_put_back: Internet + Bridge,
        a_stale_bridge_and_veth: Bridge,
        a_fixed_address_and_aliases: Bridge,
    ]
}

/// Two services on the default network.
pub(super) const PAIR: &str = r#"
    services:
      web: {image: root_fs, init: true, command: [httpd, -f, -p, "80", -h, /www]}
      client: {image: root_fs, init: true, command: [sleep, infinity]}
"#;

/// The first address of a service's `eth0`.
pub(super) fn address(project: &Project<'_>, service: &str) -> Ipv4Addr {
    let shown = project.exec(service, &["ip", "-o", "-4", "addr", "show", "dev", "eth0"]).ok().stdout;
    let field = shown.split_whitespace().nth(3).unwrap_or_else(|| panic!("an address in {shown}"));
    field.split('/').next().and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("an address in {shown}"))
}

/// Fetches a page over HTTP from within a service.
pub(super) fn fetch(project: &Project<'_>, service: &str, url: &str) -> Option<String> {
    let done = project.exec(service, &["timeout", "2", "wget", "-q", "-O", "-", url]);
    (done.code == 0).then_some(done.stdout)
}

fn services_find_each_other_by_name(sandbox: &Sandbox) {
    let project = sandbox.project("names", PAIR);
    project.up();
    let web = address(&project, "web");
    assert_eq!(&web.octets()[..2], &[10, 11], "out of 10.11.0.0/16: {web}");
    for name in ["web", "names-web-1", "web.names_default", "WEB"] {
        let page = eventually(&format!("{name} answers"), || fetch(&project, "client", &format!("http://{name}/")));
        assert!(page.contains("mydocker"), "{page}");
    }
    let asked = project.exec("client", &["nslookup", "web"]);
    assert!(asked.stdout.contains("127.0.0.11") && asked.stdout.contains(&web.to_string()), "{}", asked.describe());
    project.exec("client", &["ping", "-c", "1", "-W", "2", "web"]).ok();
    let unknown = project.exec("client", &["nslookup", "nosuch"]);
    assert!(
        unknown.stdout.contains("NXDOMAIN")
            || unknown.stderr.contains("NXDOMAIN")
            || unknown.stdout.contains("can't find"),
        "{}",
        unknown.describe()
    );
    // It also knows itself, backwards and by the short id
    let own = project.exec("client", &["sh", "-c", "nslookup $(hostname) && nslookup $(hostname -i)"]);
    assert!(own.stdout.contains(&address(&project, "client").to_string()), "{}", own.describe());
}

fn names_of_stopped_services_are_unknown(sandbox: &Sandbox) {
    let project = sandbox.project("gone", PAIR);
    project.up();
    project.exec("client", &["nslookup", "web"]).ok();
    project.compose(&["stop", "-t", "1", "web"]).ok();
    assert_ne!(project.exec("client", &["nslookup", "web"]).code, 0);
    project.compose(&["start", "web"]).ok();
    eventually("web is known again", || (project.exec("client", &["nslookup", "web"]).code == 0).then_some(()));
}

pub(super) fn beyond_the_nat(sandbox: &Sandbox) {
    let project = sandbox.project("nat", PAIR);
    project.up();
    project.exec("client", &["ping", "-c", "1", "-W", "2", "198.51.100.10"]).ok();
    let seen = fetch(&project, "client", "http://198.51.100.10/").expect("the server beyond answers");
    assert!(seen.starts_with("192.0.2.2 "), "the server sees the host's address: {seen}");
    // Names beyond: asked of the host's own name server
    sandbox.shell("echo nameserver 198.51.100.10 > resolv.conf && mount --bind resolv.conf /etc/resolv.conf").ok();
    let configured = sandbox.project("upstream", PAIR);
    configured.up();
    let seen = fetch(&configured, "client", "http://example.test/").expect("found by name");
    assert!(seen.starts_with("192.0.2.2 "), "{seen}");
    sandbox.shell("umount /etc/resolv.conf").ok();
}

fn a_host_that_drops_forwarding(sandbox: &Sandbox) {
    sandbox.shell("iptables -P FORWARD DROP").ok();
    let project = sandbox.project("dropping", PAIR);
    project.up();
    assert!(fetch(&project, "client", "http://198.51.100.10/").is_some(), "ours is let through");
    assert!(fetch(&project, "client", "http://web/").is_some());
    // Others' forwarding stays as the host's owner wants it: nothing of ours accepts what is not of our bridges.
    let rules = sandbox.shell("iptables -S FORWARD; iptables -S | grep MYDOCKER-FORWARD").ok().stdout;
    let open: Vec<&str> = rules
        .lines()
        .filter(|rule| {
            rule.ends_with("-j ACCEPT")
                && !rule.contains("-i br")
                && !rule.contains("-o br")
                && !rule.contains("RELATED")
        })
        .collect();
    assert!(open.is_empty(), "{open:?}");
    project.down();
    assert!(sandbox.shell("iptables -S FORWARD").ok().stdout.starts_with("-P FORWARD DROP"));
    sandbox.shell("iptables -P FORWARD ACCEPT").ok();
}

pub(super) fn networks_are_isolated(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [httpd, -f, -p, "80", -h, /www]}
        services:
          front: {<<: *s, networks: [front]}
          both: {<<: *s, networks: [front, back]}
          back: {<<: *s, networks: [back]}
        networks: {front: , back: }
    "#;
    let project = sandbox.project("two", yaml);
    project.up();
    assert!(fetch(&project, "both", "http://front/").is_some() && fetch(&project, "both", "http://back/").is_some());
    assert!(fetch(&project, "front", "http://both/").is_some());
    let back = address(&project, "back");
    assert!(fetch(&project, "front", "http://back/").is_none(), "not by name");
    assert!(fetch(&project, "front", &format!("http://{back}/")).is_none(), "not by address");
    let interfaces = project.exec("both", &["ls", "/sys/class/net"]).ok().stdout;
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["eth0", "eth1", "lo"]);
    let routes = project.exec("both", &["ip", "route"]).ok().stdout;
    assert_eq!(routes.lines().filter(|route| route.starts_with("default")).count(), 1, "{routes}");
    // Nor from another project
    let other = sandbox.project("other", PAIR);
    other.up();
    assert!(fetch(&other, "client", &format!("http://{back}/")).is_none());
    assert!(fetch(&other, "client", "http://back/").is_none());
}

pub(super) fn published_ports(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          web: {image: root_fs, init: true, command: [httpd, -f, -p, "80", -h, /www], ports: ["8080:80", "127.0.0.1:8081:80"]}
          client: {image: root_fs, init: true, command: [sleep, infinity]}
    "#;
    let project = sandbox.project("ports", yaml);
    project.up();
    let get = |url: &str| sandbox.host(&["busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", url]);
    for url in ["http://127.0.0.1:8080/", "http://127.0.0.1:8081/", "http://192.0.2.2:8080/"] {
        let page = eventually(&format!("{url} answers"), || Some(get(url)).filter(|done| done.code == 0));
        assert!(page.stdout.contains("mydocker"), "{}", page.describe());
    }
    assert_ne!(get("http://192.0.2.2:8081/").code, 0, "bound to loopback alone");
    assert!(
        fetch(&project, "client", "http://192.0.2.2:8080/").is_some(),
        "from another container, by the host's address"
    );
    let outside = |url: &str| {
        let inet = format!("--net=/run/netns/natlab-{}-inet", sandbox.token());
        sandbox.host(&["nsenter", &inet, "busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", url])
    };
    outside("http://192.0.2.2:8080/").ok();
    assert_ne!(outside("http://192.0.2.2:8081/").code, 0);
    let ps = project.compose(&["ps"]).ok().stdout;
    assert!(ps.contains("0.0.0.0:8080->80/tcp") && ps.contains("127.0.0.1:8081->80/tcp"), "{ps}");
    project.down();
    assert_ne!(get("http://127.0.0.1:8080/").code, 0, "gone with `down`");
}

fn a_taken_port_is_named(sandbox: &Sandbox) {
    let listener = sandbox.spawn_shell("exec busybox nc -l -p 8080");
    eventually("nc listens", || {
        sandbox.shell("ss -ltn 2>/dev/null || busybox netstat -ltn").stdout.contains(":8080").then_some(())
    });
    let project = sandbox.project(
        "taken",
        r#"
        services:
          web: {image: root_fs, init: true, command: [sleep, infinity], ports: ["8080:80"]}
        "#,
    );
    let up = project.compose(&["up", "-d"]).refused(1, &["8080", "web", &listener.pid().to_string()]); // F54
    assert!(
        up.stderr.contains("in use") || up.stderr.contains("taken") || up.stderr.contains("bound"),
        "{}",
        up.describe()
    );
    drop(listener);
    project.up();
}

fn two_services_that_want_one_port(sandbox: &Sandbox) {
    let project = sandbox.project(
        "both",
        r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity], ports: ["8080:80"]}
        services: {one: *s, two: *s}
        "#,
    );
    let up = project.compose(&["up", "-d"]);
    assert!(up.code == 1 || up.code == 2, "{}", up.describe());
    assert!(up.stderr.contains("8080"), "{}", up.describe());
}

fn none_and_host(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          none: {<<: *s, network_mode: none}
          host: {<<: *s, network_mode: host}
          shared: {<<: *s, network_mode: "service:none"}
    "#;
    let project = sandbox.project("modes", yaml);
    project.up();
    let namespace = |service: &str| {
        std::fs::read_link(format!("/proc/{}/ns/net", project.container(service).pid)).expect("it runs")
    };
    let host = sandbox.host(&["readlink", "/proc/self/ns/net"]).ok().stdout;
    assert_eq!(namespace("host").to_string_lossy(), host.trim());
    assert_ne!(namespace("none").to_string_lossy(), host.trim());
    assert_eq!(namespace("shared"), namespace("none"));
    assert_eq!(project.exec("none", &["ls", "/sys/class/net"]).ok().stdout, "lo\n");
}

fn the_network_is_ready_before_the_command(sandbox: &Sandbox) {
    let services: String = (1..=10)
        .map(|number| format!("\n          s{number}: {{image: root_fs, command: [sh, -c, 'ip -o -4 addr show eth0 && ip route && cat /etc/resolv.conf']}}"))
        .collect();
    let project = sandbox.project("ready", &format!("\n        services:{services}\n"));
    let up = project.compose(&["up", "--no-color"]).ok();
    assert_eq!(up.stdout.matches("inet 10.").count(), 10, "{}", up.describe());
    assert_eq!(up.stdout.matches("default via 10.").count(), 10, "{}", up.describe());
    assert_eq!(up.stdout.matches("nameserver 127.0.0.11").count(), 10, "{}", up.describe());
}

fn a_subnet_that_a_host_route_covers_is_not_taken(sandbox: &Sandbox) {
    // F55: the first /24 of the pool is somebody else's
    sandbox.shell("ip link add other type bridge && ip addr add 10.11.0.1/24 dev other && ip link set other up").ok();
    sandbox.shell("ip route add 10.11.1.0/24 dev other").ok();
    let project = sandbox.project("elsewhere", PAIR);
    project.up();
    let taken = address(&project, "web").octets();
    assert!(taken[2] > 1, "{taken:?}");
    project.down();
    sandbox.shell("ip link del other").ok();
}

fn an_asked_subnet_that_overlaps_is_refused(sandbox: &Sandbox) {
    sandbox.shell("ip link add other type bridge && ip addr add 172.30.0.1/24 dev other && ip link set other up").ok();
    let yaml = "\n services:\n  one: {image: root_fs, command: [sleep, infinity]}\n networks:\n  default: {ipam: {config: [{subnet: 172.30.0.0/16}]}}\n";
    let project = sandbox.project("overlap", yaml);
    project.compose(&["up", "-d"]).refused(1, &["172.30.0.0/16", "other"]);
    sandbox.shell("ip link del other").ok();
}

fn rules_of_others_stay(sandbox: &Sandbox) {
    let theirs = "iptables -t nat -A POSTROUTING -s 10.200.0.0/24 -j MASQUERADE; iptables -A FORWARD -s 10.200.0.0/24 -j ACCEPT; \
                  iptables -N DOCKER-USER; iptables -I FORWARD -j DOCKER-USER; iptables -N MINE; iptables -A MINE -j RETURN";
    sandbox.shell(theirs).ok();
    let rules = || sandbox.shell("iptables-save | grep -v '^#' | sed 's/\\[.*//'").ok().stdout;
    let before = rules();
    let project = sandbox.project("polite", PAIR);
    project.up();
    let with_ours = rules();
    for rule in before.lines() {
        assert!(with_ours.contains(rule), "{rule} in {with_ours}");
    }
    project.down();
    assert_eq!(rules(), before);
    sandbox.shell("iptables -F; iptables -X; iptables -t nat -F").ok();
}

fn rules_do_not_pile_up(sandbox: &Sandbox) {
    let project = sandbox.project("piling", PAIR);
    let count = || sandbox.shell("iptables-save | grep -c MYDOCKER").stdout.trim().parse::<u32>().expect("a number");
    project.up();
    let first = count();
    for _ in 0..4 {
        project.compose(&["up", "-d", "--force-recreate"]).ok();
        assert_eq!(count(), first);
    }
    let second = sandbox.project("piling2", PAIR);
    second.up();
    second.down();
    assert_eq!(count(), first, "the other project's went with it");
    assert!(fetch(&project, "client", "http://web/").is_some(), "ours stayed");
    project.down();
    assert_eq!(count(), 0);
    assert_eq!(sandbox.shell("ip -o link show type bridge; ip -o link show type veth").ok().stdout, "");
}

pub(super) fn forwarding_is_put_back(sandbox: &Sandbox) {
    let forwarding = || sandbox.shell("cat /proc/sys/net/ipv4/ip_forward").ok().stdout;
    assert_eq!(forwarding(), "0\n", "the lab's host starts without");
    let project = sandbox.project("forward", PAIR);
    project.up();
    assert_eq!(forwarding(), "1\n");
    let second = sandbox.project("forward2", PAIR);
    second.up();
    project.down();
    assert_eq!(forwarding(), "1\n", "there still is a network");
    second.down();
    assert_eq!(forwarding(), "0\n");
}

fn a_stale_bridge_and_veth(sandbox: &Sandbox) {
    let project = sandbox.project("stale", PAIR);
    project.up();
    let bridge = sandbox.shell("ip -o link show type bridge | cut -d: -f2").ok().stdout.trim().to_owned();
    project.down();
    // As a crash may leave them: a bridge of our name without an address, a veth that nobody has.
    sandbox.shell(&format!("ip link add {bridge} type bridge && ip link add veth0badcafe type veth peer name vethpeer && ip link set veth0badcafe master {bridge}")).ok();
    project.up();
    assert!(fetch(&project, "client", "http://web/").is_some());
    project.down();
    // No record says that mydocker made them, so they may stay.
    sandbox.shell(&format!("ip link del vethpeer; ip link del {bridge} || true")).ok();
}

fn a_fixed_address_and_aliases(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          web:
            image: root_fs
            init: true
            command: [httpd, -f, -p, "80", -h, /www]
            networks: {inner: {ipv4_address: 172.31.7.7, aliases: [www, shop]}}
          client: {image: root_fs, init: true, command: [sleep, infinity], networks: [inner]}
        networks:
          inner: {ipam: {config: [{subnet: 172.31.7.0/24}]}}
    "#;
    let project = sandbox.project("fixed", yaml);
    project.up();
    assert_eq!(address(&project, "web"), Ipv4Addr::new(172, 31, 7, 7));
    for name in ["www", "shop", "web"] {
        assert!(fetch(&project, "client", &format!("http://{name}/")).is_some(), "{name}");
    }
    let gateway = project.exec("client", &["ip", "route"]).ok().stdout;
    assert!(gateway.contains("default via 172.31.7.1"), "{gateway}");
}
