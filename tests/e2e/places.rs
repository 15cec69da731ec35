//! A container's places in networks: interfaces and gateways, limits, what cannot be, and what somebody takes away.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::network::{PAIR, address, fetch};
use crate::support::{Case, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        interfaces_and_gateways: Bridge,
        limits_of_bandwidth: Bridge,
        names_and_addresses_that_are_none,
        an_exhausted_network: Bridge,
        a_bridge_that_was_deleted: Bridge,
        a_hundred_networks: Bridge,
        one_network_of_several_services: Bridge,
        twenty_kills_lose_no_lease: Bridge,
    ]
}

fn interfaces_and_gateways(sandbox: &Sandbox) {
    let project = sandbox.project(
        "order",
        "
        services:
          a:
            image: root_fs
            init: true
            command: [sleep, infinity]
            networks:
              first: {gw_priority: 1}
              second: {priority: 10, mac_address: 02:00:00:00:90:01}
              third: {priority: 5, ipv4_address: 10.90.3.33, interface_name: web0}
              zero: {interface_name: eth3}
        networks:
          first: {ipam: {config: [{subnet: 10.90.1.0/24}]}}
          second: {ipam: {config: [{subnet: 10.90.2.0/24}]}}
          third: {ipam: {config: [{subnet: 10.90.3.0/24}]}}
          zero: {ipam: {config: [{subnet: 10.90.4.0/24}]}}
        ",
    );
    project.up();
    let shown = project.exec("a", &["ip", "-o", "-4", "addr"]).ok().stdout;
    let found: Vec<(&str, &str)> = shown
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?, words.nth(1)?))
        })
        .filter(|(name, _)| *name != "lo")
        .collect();
    // By falling priority, then by name; a name that is asked for keeps its place in the order.
    let wanted =
        [("eth0", "10.90.2.2/24"), ("web0", "10.90.3.33/24"), ("eth2", "10.90.1.2/24"), ("eth3", "10.90.4.2/24")];
    assert_eq!(found.iter().copied().collect::<std::collections::BTreeSet<_>>(), wanted.into(), "{shown}");
    let mac = project.exec("a", &["cat", "/sys/class/net/eth0/address"]).ok().stdout;
    assert_eq!(mac.trim(), "02:00:00:00:90:01");
    let mac = project.exec("a", &["cat", "/sys/class/net/web0/address"]).ok().stdout;
    assert_eq!(mac.trim(), "02:42:0a:5a:03:21", "of the address");
    let routes = project.exec("a", &["ip", "route"]).ok().stdout;
    let ways: Vec<&str> = routes.lines().filter(|route| route.starts_with("default")).map(str::trim).collect();
    assert_eq!(ways, ["default via 10.90.1.1 dev eth2"], "of the greatest gw_priority");
    // The bridge's own address is that of the gateway: neighbours need not learn it anew.
    let script =
        "dev=$(ip -o -4 addr show to 10.90.3.1 | awk '{print $2}'); ip -o link show $dev | grep -o 'ether [0-9a-f:]*'";
    let bridges = sandbox.shell(script).ok().stdout;
    assert_eq!(bridges.trim(), "ether 02:42:0a:5a:03:01");
}

/// A file that `up` refuses, in words that name the place.
pub(super) fn refused(sandbox: &Sandbox, yaml: &str, words: &[&str]) {
    let file = sandbox.dir().join("wrong.yaml");
    std::fs::write(&file, yaml).expect("the file is written");
    sandbox.mydocker(&["compose", "-f", file.to_str().unwrap_or_default(), "up", "-d"]).refused(2, words);
}

fn limits_of_bandwidth(sandbox: &Sandbox) {
    let project = sandbox.project(
        "limits",
        "
        services:
          slow:
            image: root_fs
            init: true
            command: [httpd, -f, -p, '80', -h, /tmp]
            networks: {default: {driver_opts: {com.mydocker.ingress_rate: 20mbit, com.mydocker.egress_rate: 8mbit, com.mydocker.egress_burst: 64kb}}}
          client: {image: root_fs, init: true, command: [sleep, infinity]}
        ",
    );
    project.up();
    project.exec("slow", &["dd", "if=/dev/zero", "of=/tmp/f", "bs=1000", "count=600"]).ok();
    // 600,000 bytes are 4.8 Mbit: more than half a second at 8 Mbit/s, less the first burst.
    let script =
        "s=$(cut -d' ' -f1 /proc/uptime); wget -q -O /dev/null http://slow/f; echo $s $(cut -d' ' -f1 /proc/uptime)";
    let times = project.exec("client", &["sh", "-c", script]).ok().stdout;
    let times: Vec<f64> = times.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    assert!((0.4..4.0).contains(&(times[1] - times[0])), "{times:?}");
    assert!(sandbox.shell("tc qdisc show").ok().stdout.contains("rate 20Mbit"), "what it receives");
    for (options, words) in [
        (
            "com.mydocker.ingress_rate: 10mbps",
            ["services.a.networks.n.driver_opts.com.mydocker.ingress_rate", "10mbit"],
        ),
        (
            "com.mydocker.egress_burst: 10kb",
            ["services.a.networks.n.driver_opts.com.mydocker.egress_burst", "egress_rate"],
        ),
    ] {
        let yaml = format!(
            "services: {{a: {{image: root_fs, command: [\"true\"], networks: {{n: {{driver_opts: {{{options}}}}}}}}}}}\nnetworks: {{n: }}\n"
        );
        refused(sandbox, &yaml, &words);
    }
    let yaml = "services: {a: {image: root_fs, command: [\"true\"], networks: {n: {driver_opts: {com.mydocker.ingress_rate: 1mbit}}}}}\n\
                networks: {n: {driver: macvlan}}\n";
    refused(sandbox, yaml, &["services.a.networks.n.driver_opts", "macvlan"]);
}

/// B16, B19: what a file may say of networks and what it may not.
fn names_and_addresses_that_are_none(sandbox: &Sandbox) {
    let service = "services: {a: {image: root_fs, command: [\"true\"], networks: ";
    let network = |text: &str| format!("{service}[n]}}}}\nnetworks: {{n: {text}}}\n");
    let long = "n".repeat(230);
    for name in
        ["\"a/b\"", "\"..\"", "\"../../x\"", "\"a\\nb\"", "\"-j ACCEPT\"", "\"a; reboot\"", "\"$(id)\"", "\"\"", &long]
    {
        if name != "\"\"" {
            let yaml = format!("{service}[{name}]}}}}\nnetworks: {{{name}: }}\n");
            refused(sandbox, &yaml, &["networks"]);
            refused(sandbox, &network(&format!("{{name: {name}}}")), &["n"]);
        }
    }
    for bridge in ["\"br;reboot\"", "\"a/b\"", "a-name-that-is-too-long", "\"br0 -j ACCEPT\"", "\"..\""] {
        let text = format!("{{driver_opts: {{com.docker.network.bridge.name: {bridge}}}}}");
        refused(sandbox, &network(&text), &["networks.n.driver_opts.com.docker.network.bridge.name"]);
    }
    for (pool, word) in [
        ("{subnet: 10.0.0.0/33}", "10.0.0.0/33"),
        ("{subnet: 10.0.0.1/24}", "host bits"),
        ("{subnet: 10.0.0.0/32}", "too small"),
        ("{subnet: 10.0.0}", "not a subnet"),
        ("{subnet: 10.0.0.0/24, gateway: 10.0.1.1}", "10.0.1.1"),
        ("{subnet: 10.0.0.0/24, gateway: 10.0.0.255}", "broadcast"),
        ("{subnet: 10.0.0.0/24, ip_range: 10.0.1.0/25}", "10.0.1.0/25"),
    ] {
        let yaml = network(&format!("{{ipam: {{config: [{pool}]}}}}"));
        refused(sandbox, &yaml, &["networks.n.ipam.config[0]", word]);
    }
    for (place, words) in [
        ("ipv4_address: 10.9.0.300", ["services.a.networks.n.ipv4_address", "10.9.0.300"]),
        ("ipv4_address: 10.8.0.5", ["services.a.networks.n.ipv4_address", "outside"]),
        ("ipv4_address: 10.9.0.0", ["services.a.networks.n.ipv4_address", "network"]),
        ("ipv4_address: 10.9.0.255", ["services.a.networks.n.ipv4_address", "broadcast"]),
        ("ipv4_address: 10.9.0.1", ["services.a.networks.n.ipv4_address", "gateway"]),
        ("mac_address: 01:00:5e:00:00:01", ["services.a.networks.n.mac_address", "hardware address"]),
        ("interface_name: lo", ["services.a.networks.n.interface_name", "loopback"]),
        ("interface_name: a-name-too-long-for-linux", ["services.a.networks.n.interface_name", "1 to 15"]),
        ("interface_name: a/b", ["services.a.networks.n.interface_name", "1 to 15"]),
    ] {
        let yaml = format!(
            "{service}{{n: {{{place}}}}}}}}}\nnetworks: {{n: {{ipam: {{config: [{{subnet: 10.9.0.0/24}}]}}}}}}\n"
        );
        refused(sandbox, &yaml, &words);
    }
    let two = |first: &str, second: &str| {
        format!(
            "x-s: &s {{image: root_fs, command: [\"true\"]}}\nservices: {{a: {{<<: *s, networks: {{n: {{{first}}}}}}}, \
             b: {{<<: *s, networks: {{n: {{{second}}}}}}}}}\nnetworks: {{n: {{ipam: {{config: [{{subnet: 10.9.0.0/24}}]}}}}}}\n"
        )
    };
    let same = "ipv4_address: 10.9.0.7";
    refused(sandbox, &two(same, same), &["services.b.networks.n.ipv4_address", "service `a`"]);
    let same = "mac_address: 02:00:00:00:00:07";
    refused(sandbox, &two(same, same), &["services.b.networks.n.mac_address", "service `a`"]);
    let yaml = "services: {a: {image: root_fs, command: [\"true\"], networks: {m: {interface_name: x0}, n: {interface_name: x0}}}}\n\
                networks: {m: , n: }\n";
    refused(sandbox, yaml, &["services.a.networks.n.interface_name", "network `m`"]);
    let links = sandbox.shell("ip -o link | wc -l").ok().stdout;
    assert_eq!(links.trim(), "1", "nothing was made of any of them");
}

fn an_exhausted_network(sandbox: &Sandbox) {
    let project = sandbox.project(
        "small",
        "
        services:
          a: {image: root_fs, init: true, command: [sleep, infinity], scale: 2, networks: [tiny]}
        networks: {tiny: {ipam: {config: [{subnet: 10.91.0.0/30}]}}}
        ",
    );
    let up = project.compose(&["up", "-d"]);
    assert_eq!(up.code, 1, "{}", up.describe());
    for word in ["small-a-", "small_tiny", "10.91.0.0/30", "hint:", "mydocker network inspect small_tiny"] {
        assert!(up.stderr.contains(word), "{word}: {}", up.describe());
    }
    let places = sandbox.mydocker(&["network", "inspect", "small_tiny"]).stdout;
    assert!(places.matches("\"Address\"").count() <= 1, "{places}");
}

fn a_bridge_that_was_deleted(sandbox: &Sandbox) {
    let project = sandbox.project("healed", PAIR);
    project.up();
    let bridge = sandbox.shell("ip -o link show type bridge | cut -d: -f2").ok().stdout.trim().to_owned();
    let web = address(&project, "web");
    sandbox.shell(&format!("ip link delete {bridge}")).ok();
    let check = sandbox.mydocker(&["network", "check"]);
    assert!(
        check.code == 1 && check.stderr.contains("healed_default") && check.stderr.contains(&bridge),
        "{}",
        check.describe()
    );
    // The containers stay as they are, and their cables are plugged in again.
    project.up();
    assert_eq!(address(&project, "web"), web);
    eventually("the way is there again", || fetch(&project, "client", &format!("http://{web}/")));
    sandbox.mydocker(&["network", "check"]).ok();
    // A cable that is cut is told of; only a new container has another.
    let host_end =
        sandbox.shell("ip -o link show type veth | head -1 | cut -d: -f2 | cut -d@ -f1").ok().stdout.trim().to_owned();
    sandbox.shell(&format!("ip link delete {host_end}")).ok();
    let check = sandbox.mydocker(&["network", "check"]);
    assert!(check.code == 1 && check.stderr.contains(&host_end), "{}", check.describe());
    project.compose(&["up", "-d", "--force-recreate"]).ok();
    eventually("the new ones reach one another", || fetch(&project, "client", "http://web/"));
    sandbox.mydocker(&["network", "check"]).ok();
}

fn a_hundred_networks(sandbox: &Sandbox) {
    let names: Vec<String> = (0..100).map(|number| format!("n{number:02}")).collect();
    let yaml = format!(
        "services: {{a: {{image: root_fs, init: true, command: [sleep, infinity], networks: [{0}]}}}}\nnetworks: {{{1}: }}\n",
        names.join(", "),
        names.join(": , ")
    );
    let project = sandbox.project("hundred", &yaml);
    let begun = Instant::now();
    project.up();
    let count = project.exec("a", &["sh", "-c", "ls /sys/class/net | wc -l"]).ok().stdout;
    assert_eq!(count.trim(), "101", "and lo");
    project.down();
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let left = sandbox.shell("ip -o link | wc -l; iptables-save | grep -c MYDOCKER").stdout;
    assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["1", "0"]);
}

fn one_network_of_several_services(sandbox: &Sandbox) {
    sandbox.mydocker(&["network", "create", "--subnet", "10.92.0.0/24", "common"]).ok();
    let project = sandbox.project(
        "sharing",
        "
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          owner: {<<: *s, networks: [common, open]}
          guest: {<<: *s, network_mode: 'service:owner', depends_on: [owner]}
          lodger: {<<: *s, network_mode: 'container:sharing-owner-1', depends_on: [owner]}
        networks: {common: {external: true}, open: {attachable: true}}
        ",
    );
    project.up();
    let own = |service: &str| {
        let address = address(&project, service);
        let namespace = project.exec(service, &["readlink", "/proc/self/ns/net"]).ok().stdout;
        (address, namespace)
    };
    assert_eq!(own("owner").0.octets()[..3], [10, 92, 0]);
    assert_eq!(own("owner"), own("guest"));
    assert_eq!(own("owner"), own("lodger"));
    project.down();
    sandbox.mydocker(&["network", "rm", "common"]).ok();
}

/// Everything of ours is killed twenty times, at moments spread over `up`, on a network with room for five: a lease that is lost is
/// missed soon.
fn twenty_kills_lose_no_lease(sandbox: &Sandbox) {
    let yaml = "
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services: {a: *s, b: *s, c: *s}
        networks: {default: {ipam: {config: [{subnet: 10.90.9.0/29}]}}}
    ";
    let project = sandbox.project("kills", yaml);
    let whole = project.up().took;
    project.down();
    for run in 0..20 {
        let client = project.spawn(&["up", "-d"]);
        // The moment is the parameter of the run: nothing else says when a step has been reached.
        let at = Instant::now() + whole * run / 19;
        while Instant::now() < at {
            std::thread::park_timeout(at - Instant::now());
        }
        // One that was on its way while the others died is among the next.
        eventually("everything of ours is dead", || {
            let left = sandbox.processes();
            // It may have gone by itself.
            for pid in &left {
                let _ = kill(*pid, Signal::SIGKILL);
            }
            left.is_empty().then_some(())
        });
        client.wait();
    }
    project.up();
    let shown = sandbox.mydocker(&["network", "inspect", "kills_default"]).ok().stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let places = shown.pointer("/0/Attachments").and_then(serde_json::Value::as_array).expect("a list");
    assert_eq!(places.len(), 3, "{shown:#}");
    let links = sandbox.shell("ip -o link show type veth").ok().stdout;
    assert_eq!(links.lines().count(), 3, "{links}");
    project.down();
    sandbox.expect_clean();
}
