//! What the firewall's rules let pass and what not, with every back end: the same packets, whoever makes the rules.

use crate::network::{
    PAIR, address, beyond_the_nat, fetch, forwarding_is_put_back, networks_are_isolated, published_ports,
};
use crate::ports::{a_udp_flow_finds_the_next_container, tcp_and_udp_from_everywhere};
use crate::support::{Case, Need, Sandbox, cases, eventually};

/// Somebody who makes the rules.
#[derive(Clone, Copy)]
struct BackEnd {
    name: &'static str,
    /// `--firewall`
    choice: &'static str,
    /// What the host's `iptables` is here.
    iptables: &'static str,
    need: Need,
}

const BACK_ENDS: [BackEnd; 3] = [
    BackEnd { name: "iptables", choice: "iptables", iptables: "iptables-nft", need: Need::Bridge },
    BackEnd { name: "legacy", choice: "iptables", iptables: "iptables-legacy", need: Need::LegacyIptables },
    BackEnd { name: "nftables", choice: "nftables", iptables: "iptables-nft", need: Need::Nftables },
];

impl BackEnd {
    fn is_nftables(self) -> bool {
        self.choice == "nftables"
    }
}

type Body = fn(&Sandbox, BackEnd);

pub(crate) fn cases() -> Vec<Case> {
    let bodies: [(&str, Body); 11] = [
        ("beyond_the_nat", |sandbox, _| beyond_the_nat(sandbox)),
        ("networks_are_isolated", |sandbox, _| networks_are_isolated(sandbox)),
        ("published_ports", |sandbox, _| published_ports(sandbox)),
        ("tcp_and_udp_from_everywhere", |sandbox, _| tcp_and_udp_from_everywhere(sandbox)),
        ("a_udp_flow_finds_the_next_container", |sandbox, _| a_udp_flow_finds_the_next_container(sandbox)),
        ("forwarding_is_put_back", |sandbox, _| forwarding_is_put_back(sandbox)),
        ("nothing_comes_in_that_is_not_published", nothing_comes_in_that_is_not_published),
        ("an_internal_network_has_no_way_out", an_internal_network_has_no_way_out),
        ("a_host_that_drops_stays_closed_for_others", a_host_that_drops_stays_closed_for_others),
        ("people_s_own_chain_comes_first_and_stays", people_s_own_chain_comes_first_and_stays),
        ("flushed_rules_come_back", flushed_rules_come_back),
    ];
    let mut all = cases![rules_change_hands: Internet + Bridge + Nftables, none_makes_no_rules: Bridge, who_drops_our_packets_is_named: Internet + Bridge + Nftables];
    for back_end in BACK_ENDS {
        for (name, body) in bodies {
            let run = move |sandbox: &Sandbox| {
                sandbox.set_env("MYDOCKER_FIREWALL", back_end.choice);
                sandbox.set_env("MYDOCKER_IPTABLES", if back_end.is_nftables() { "" } else { back_end.iptables });
                body(sandbox, back_end);
            };
            let case = Case::new(&format!("e2e::firewall::{}::{name}", back_end.name), run);
            all.push(case.needs(Need::Internet).needs(back_end.need));
        }
    }
    all
}

/// Does something in the "internet" of the lab.
fn outside(sandbox: &Sandbox, words: &[&str]) -> bool {
    let inet = format!("--net=/run/netns/natlab-{}-inet", sandbox.token());
    sandbox.host(&[&["nsenter", &inet], words].concat()).code == 0
}

fn reaches(sandbox: &Sandbox, url: &str) -> bool {
    outside(sandbox, &["busybox", "timeout", "1", "busybox", "wget", "-q", "-O", "/dev/null", url])
}

fn nothing_comes_in_that_is_not_published(sandbox: &Sandbox, _: BackEnd) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sh, -c, "httpd -p 81 -h /www && exec httpd -f -p 80 -h /www"]}
        services:
          web: {<<: *s, ports: ["8080:80"]}
          shy: {<<: *s}
    "#;
    let project = sandbox.project("closed", yaml);
    project.up();
    assert!(outside(sandbox, &["ip", "route", "add", "10.11.0.0/16", "via", "192.0.2.2"]));
    assert!(outside(sandbox, &["busybox", "ping", "-c1", "-W2", "192.0.2.2"]));
    assert!(reaches(sandbox, "http://192.0.2.2:8080/"), "what is published is reached");
    let (web, shy) = (address(&project, "web"), address(&project, "shy"));
    for url in [
        format!("http://{shy}/"),
        format!("http://{web}/"),
        format!("http://{web}:81/"),
        "http://192.0.2.2:81/".to_owned(),
    ] {
        assert!(!reaches(sandbox, &url), "{url}");
    }
    assert!(!outside(sandbox, &["busybox", "ping", "-c1", "-W1", &shy.to_string()]), "not even a ping");
    assert!(fetch(&project, "web", "http://198.51.100.10/").is_some(), "answers come back");
    assert!(outside(sandbox, &["ip", "route", "del", "10.11.0.0/16"]));
}

fn an_internal_network_has_no_way_out(sandbox: &Sandbox, _: BackEnd) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, cap_add: [NET_ADMIN], command: [httpd, -f, -p, "80", -h, /www]}
        services:
          one: {<<: *s, networks: [inner], ports: ["8080:80"]}
          two: {<<: *s, networks: [inner]}
          other: {<<: *s, networks: [open]}
        networks: {inner: {internal: true}, open: }
    "#;
    let project = sandbox.project("internal", yaml);
    project.up();
    let other = address(&project, "other");
    let gateway = {
        let octets = address(&project, "one").octets();
        format!("{}.{}.{}.1", octets[0], octets[1], octets[2])
    };
    assert!(!project.exec("one", &["ip", "route"]).ok().stdout.contains("default"));
    // Also with a route of its own making
    project.exec("one", &["ip", "route", "add", "default", "via", &gateway]).ok();
    assert!(fetch(&project, "one", "http://two/").is_some(), "within it all is well");
    assert!(fetch(&project, "one", "http://198.51.100.10/").is_none(), "no way out");
    assert!(fetch(&project, "one", &format!("http://{other}/")).is_none(), "nor into another network");
    assert!(fetch(&project, "other", &format!("http://{}/", address(&project, "one"))).is_none(), "nor back");
    assert!(fetch(&project, "other", "http://198.51.100.10/").is_some());
}

fn a_host_that_drops_stays_closed_for_others(sandbox: &Sandbox, back_end: BackEnd) {
    if back_end.is_nftables() {
        // What another table drops is dropped: the owner of such a host makes the exception there.
        sandbox.shell("nft 'add table inet fw; add chain inet fw gate { type filter hook forward priority 0; policy drop; }; add rule inet fw gate ct state established,related accept; add rule inet fw gate iifname \"br-*\" accept'").ok();
    } else {
        sandbox.shell(&format!("{} -P FORWARD DROP", back_end.iptables)).ok();
    }
    // Somebody else's network on the same host
    sandbox
        .shell("ip link add lan0 type veth peer name lan1 && ip addr add 10.200.0.1/24 dev lan0 && ip link set lan0 up")
        .ok();
    let holder = sandbox.spawn_shell("exec unshare --net sleep 60");
    // Before that it may still be on its way into the sandbox.
    let comm = format!("/proc/{}/comm", holder.pid());
    eventually("it sleeps in a namespace of its own", || {
        (std::fs::read_to_string(&comm).ok()?.trim() == "sleep").then_some(())
    });
    let inside = format!("nsenter --net=/proc/{}/ns/net", holder.pid());
    sandbox.shell(&format!("ip link set lan1 netns {} && {inside} sh -c 'ip addr add 10.200.0.2/24 dev lan1; ip link set lan1 up; ip route add default via 10.200.0.1'", holder.pid())).ok();
    assert!(outside(sandbox, &["ip", "route", "add", "10.200.0.0/24", "via", "192.0.2.2"]));
    let project = sandbox.project("dropping", PAIR);
    project.up();
    assert!(fetch(&project, "client", "http://198.51.100.10/").is_some(), "ours is let through");
    let theirs = |target: &str| sandbox.shell(&format!("{inside} busybox ping -c1 -W1 {target}")).code == 0;
    assert!(theirs("10.200.0.1"), "the host itself");
    assert!(!theirs("198.51.100.10"), "what the host's owner dropped is dropped");
    assert!(!theirs(&address(&project, "web").to_string()), "and nobody reaches our containers");
    project.down();
    drop(holder);
    assert!(outside(sandbox, &["ip", "route", "del", "10.200.0.0/24"]));
    if back_end.is_nftables() {
        sandbox.shell("nft delete table inet fw").ok();
    } else {
        sandbox.shell(&format!("{} -P FORWARD ACCEPT", back_end.iptables)).ok();
    }
    eventually("the lan is gone", || {
        sandbox.shell("ip link del lan0 2>/dev/null; ip -o link").stdout.contains("lan").eq(&false).then_some(())
    });
}

fn people_s_own_chain_comes_first_and_stays(sandbox: &Sandbox, back_end: BackEnd) {
    let iptables = back_end.iptables;
    let (add, shown, remove) = if back_end.is_nftables() {
        let chain = "inet mydocker MYDOCKER-USER";
        (
            format!("nft add rule {chain} ip daddr 198.51.100.10 drop"),
            format!("nft list chain {chain}"),
            "nft delete table inet mydocker".to_owned(),
        )
    } else {
        (
            format!("{iptables} -A MYDOCKER-USER -d 198.51.100.10 -j DROP"),
            format!("{iptables} -S MYDOCKER-USER"),
            format!("{iptables} -F MYDOCKER-USER; {iptables} -X MYDOCKER-USER"),
        )
    };
    let project = sandbox.project("mine", PAIR);
    project.up();
    assert!(fetch(&project, "client", "http://198.51.100.10/").is_some());
    sandbox.shell(&add).ok();
    assert!(fetch(&project, "client", "http://198.51.100.10/").is_none(), "it is passed first");
    let second = sandbox.project("mine2", PAIR);
    second.up();
    assert!(fetch(&second, "client", "http://198.51.100.10/").is_none(), "new networks do not empty it");
    second.down();
    project.down();
    let left = sandbox.shell(&shown).ok().stdout;
    assert!(left.contains("198.51.100.10"), "it outlives our last network: {left}");
    sandbox.shell(&remove).ok();
}

fn flushed_rules_come_back(sandbox: &Sandbox, back_end: BackEnd) {
    let yaml = r#"
        services:
          web: {image: root_fs, init: true, command: [httpd, -f, -p, "80", -h, /www], ports: ["8080:80"]}
    "#;
    let project = sandbox.project("flushed", yaml);
    project.up();
    let ours = || match back_end.is_nftables() {
        true => sandbox.shell("nft -s list table inet mydocker").stdout,
        false => sandbox.shell(&format!("{}-save | grep MYDOCKER", back_end.iptables)).stdout,
    };
    let before: std::collections::BTreeSet<_> = ours().lines().map(str::to_owned).collect();
    let iptables = back_end.iptables;
    let flushes = [
        "nft flush ruleset".to_owned(),
        format!("{iptables} -F; {iptables} -t nat -F"),
        format!("{iptables} -t nat -F"),
        format!("{iptables} -F FORWARD"),
        // What `netfilter-persistent reload` and firewalls do that keep the host's rules in a file: all is replaced by it.
        format!("printf '*filter\\nCOMMIT\\n*nat\\nCOMMIT\\n' | {iptables}-restore; nft delete table inet mydocker"),
        format!("{iptables} -D FORWARD -j MYDOCKER-FORWARD; nft delete table inet mydocker"),
    ];
    let running = project.container("web").pid;
    for flush in flushes {
        sandbox.shell(&flush);
        eventually(&format!("after {flush}: the rules are back"), || {
            (ours().lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>() == before).then_some(())
        });
        assert!(reaches(sandbox, "http://192.0.2.2:8080/"), "after {flush}");
        assert!(fetch(&project, "web", "http://198.51.100.10/").is_some(), "after {flush}");
    }
    assert_eq!(project.container("web").pid, running, "nothing was restarted");
}

fn rules_change_hands(sandbox: &Sandbox) {
    let project = sandbox.project("hands", PAIR);
    let ours = |of: &str| sandbox.shell(of).stdout.contains("br-");
    let (nft, iptables) = ("nft list table inet mydocker", "iptables-save | grep MYDOCKER");
    for (choice, with_nft) in [("iptables", false), ("nftables", true), ("auto", true), ("iptables", false)] {
        let second = sandbox.project("second", PAIR);
        project.up();
        let words = ["--firewall", choice, "compose", "-f"].map(std::ffi::OsString::from);
        let up = ["up", "-d"].map(std::ffi::OsString::from);
        sandbox.mydocker(&[&words[..], &[second.file().into()], &up[..]].concat()).ok();
        assert_eq!((ours(nft), ours(iptables)), (with_nft, !with_nft), "{choice}");
        assert!(fetch(&project, "client", "http://198.51.100.10/").is_some(), "{choice}");
        second.down();
    }
}

fn none_makes_no_rules(sandbox: &Sandbox) {
    let before = sandbox.shell("nft list ruleset").ok().stdout;
    sandbox.set_env("MYDOCKER_FIREWALL", "none");
    let project = sandbox.project("none", PAIR);
    project.up();
    assert!(fetch(&project, "client", "http://web/").is_some(), "within a bridge no rule is needed");
    assert_eq!(sandbox.shell("nft list ruleset").ok().stdout, before);
}

fn who_drops_our_packets_is_named(sandbox: &Sandbox) {
    let fw = "add table inet fw; add chain inet fw gate { type filter hook forward priority 0; policy drop; }; \
              add rule inet fw gate iifname \"lan0\" accept";
    sandbox.shell(&format!("nft '{fw}'")).ok();
    let open = |project: &crate::support::Project<'_>| fetch(project, "client", "http://198.51.100.10/").is_some();
    for choice in ["iptables", "nftables"] {
        sandbox.set_env("MYDOCKER_FIREWALL", choice);
        let project = sandbox.project(choice, PAIR);
        let up = project.up();
        assert!(!open(&project));
        for word in ["warning", "inet fw", "gate", "nft insert rule inet fw gate iifname br-"] {
            assert!(up.stderr.contains(word), "{word}: {}", up.describe());
        }
        let network = format!("{choice}_default");
        let check = sandbox.mydocker(&["network", "check", &network]);
        assert!(check.code == 1 && check.stderr.contains("inet fw"), "{}", check.describe());
        // What the hint says helps, and then there is nothing to be said.
        let hint: Vec<&str> = up.stderr.split('`').filter(|text| text.starts_with("nft insert")).collect();
        assert_eq!(hint.len(), 3, "{}", up.describe());
        sandbox.shell(&hint.join(" && ")).ok();
        assert!(open(&project));
        sandbox.mydocker(&["network", "check", &network]).ok();
        let again = project.up();
        assert!(!again.stderr.contains("inet fw"), "{}", again.describe());
        project.down();
        sandbox.shell("nft flush chain inet fw gate; nft add rule inet fw gate iifname lan0 accept").ok();
    }
    // With nftables, a policy of iptables' is somebody else's.
    sandbox.shell("nft delete table inet fw; iptables-nft -P FORWARD DROP").ok();
    let project = sandbox.project("policy", PAIR);
    let up = project.up();
    assert!(up.stderr.contains("ip filter") && up.stderr.contains("FORWARD"), "{}", up.describe());
    project.down();
    sandbox.set_env("MYDOCKER_FIREWALL", "iptables");
    let up = project.up();
    assert!(!up.stderr.contains("warning"), "{}", up.describe());
    project.down();
    sandbox.shell("iptables-nft -P FORWARD ACCEPT").ok();
}
