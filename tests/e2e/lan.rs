//! Containers as neighbours of the host: `driver: macvlan`.

use super::network::{address, fetch};
use super::places::refused;
use crate::support::{Case, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        services_on_the_lan: Macvlan,
        services_on_the_lan_have_ipv6: Macvlan + Ipv6,
        made_by_hand_and_used_as_external: Macvlan,
        wrong_settings_are_named,
    ]
}

/// A LAN with a router at 10.83.0.1, behind the host's interface lan0.
const LAN: &str = "ip link add lan0 type veth peer name router0 && ip link set lan0 up && ip link set router0 up && \
                   ip addr add 10.83.0.1/24 dev router0";

fn services_on_the_lan(sandbox: &Sandbox) {
    // The router's interface stays here: what comes out of lan0 arrives there all the same.
    sandbox.shell(LAN).ok();
    let before = sandbox
        .shell("ip -o link | cut -d' ' -f2; iptables-save | grep -c MYDOCKER; cat /proc/sys/net/ipv4/ip_forward")
        .stdout;
    let project = sandbox.project(
        "onlan",
        r#"
        services:
          web: {image: root_fs, init: true, command: [httpd, -f, -p, "80", -h, /www], ports: ["8083:80"], networks: {lan: {ipv4_address: 10.83.0.20}}}
          client: {image: root_fs, init: true, command: [sleep, infinity], networks: [lan]}
        networks:
          lan:
            driver: macvlan
            driver_opts: {parent: lan0, macvlan_mode: bridge}
            ipam: {config: [{subnet: 10.83.0.0/24, ip_range: 10.83.0.16/28, gateway: 10.83.0.1}]}
        "#,
    );
    let up = project.up();
    assert!(
        up.stderr.contains("ports of service `web` are not published") && up.stderr.contains("macvlan"),
        "{}",
        up.describe()
    );
    assert_eq!(address(&project, "web").to_string(), "10.83.0.20");
    let page = eventually("the name answers", || fetch(&project, "client", "http://web/"));
    assert!(page.contains("mydocker"), "{page}");
    let routes = project.exec("client", &["ip", "route"]).ok().stdout;
    assert!(routes.contains("default via 10.83.0.1 dev eth0"), "{routes}");
    let rules = sandbox.shell("iptables-save 2>/dev/null | grep MYDOCKER; ss -Hltn sport = :8083").stdout;
    assert_eq!(rules, "", "no rules of ours, and nothing listens");
    // The address belongs to the service: its next container has it at once, and its neighbours see that.
    project.compose(&["up", "-d", "--force-recreate", "web"]).ok();
    assert_eq!(address(&project, "web").to_string(), "10.83.0.20");
    eventually("the new one answers", || fetch(&project, "client", "http://10.83.0.20/"));
    sandbox.mydocker(&["network", "check"]).ok();
    project.down();
    let after = sandbox
        .shell("ip -o link | cut -d' ' -f2; iptables-save | grep -c MYDOCKER; cat /proc/sys/net/ipv4/ip_forward")
        .stdout;
    assert_eq!(after, before);
    sandbox.shell("ip link delete lan0").ok();
}

fn services_on_the_lan_have_ipv6(sandbox: &Sandbox) {
    // Beyond the router there is one more address.
    let beyond = "ip -6 addr add fd00:83::1/64 dev router0 nodad && ip -6 addr add fd00:99::1/128 dev lo nodad";
    sandbox.shell(&format!("{LAN} && {beyond}")).ok();
    let project = sandbox.project(
        "onlan6",
        r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          web: {<<: *s, networks: {lan: {ipv6_address: "fd00:83::20"}}}
          client: {<<: *s, networks: [lan]}
        networks:
          lan:
            driver: macvlan
            enable_ipv6: true
            driver_opts: {parent: lan0}
            ipam: {config: [{subnet: 10.83.0.0/24, gateway: 10.83.0.1}, {subnet: "fd00:83::/64", gateway: "fd00:83::1"}]}
        "#,
    );
    project.up();
    let own = project.exec("web", &["ip", "-6", "-o", "addr", "show", "dev", "eth0"]).ok().stdout;
    assert!(own.contains("fd00:83::20/64") && !own.contains("tentative"), "{own}");
    let routes = project.exec("client", &["ip", "-6", "route"]).ok().stdout;
    assert!(routes.contains("default via fd00:83::1 dev eth0"), "{routes}");
    let reaches = |to: &str| {
        let words = ["ping", "-6", "-c", "1", "-W", "2", to];
        eventually(to, || (project.exec("client", &words).code == 0).then_some(()));
    };
    reaches("web");
    reaches("fd00:99::1");
    // Its next container has the address at once.
    project.compose(&["up", "-d", "--force-recreate", "web"]).ok();
    reaches("fd00:83::20");
    sandbox.mydocker(&["network", "check"]).ok();
    project.down();
    sandbox.shell("ip link delete lan0 && ip -6 addr del fd00:99::1/128 dev lo").ok();
}

fn made_by_hand_and_used_as_external(sandbox: &Sandbox) {
    sandbox.shell(LAN).ok();
    let words = ["network", "create", "-d", "macvlan", "-o", "parent=lan0", "--subnet", "10.83.0.0/24", "shared"];
    sandbox.mydocker(&words).ok();
    let listed = sandbox.mydocker(&["network", "ls"]).ok().stdout;
    assert!(listed.contains("macvlan") && listed.contains("10.83.0.0/24"), "{listed}");
    let yaml = "
        services: {a: {image: root_fs, init: true, command: [sleep, infinity], networks: [lan]}}
        networks: {lan: {external: true, name: shared}}
    ";
    let (first, second) = (sandbox.project("first", yaml), sandbox.project("second", yaml));
    first.up();
    second.up();
    second.exec("a", &["ping", "-c", "1", "-W", "2", &address(&first, "a").to_string()]).ok();
    let busy = sandbox.mydocker(&["network", "rm", "shared"]);
    assert!(busy.code == 1 && busy.stderr.contains("first-a-1"), "{}", busy.describe());
    first.down();
    second.down();
    sandbox.mydocker(&["network", "rm", "shared"]).ok();
    sandbox.shell("ip link delete lan0").ok();
}

fn wrong_settings_are_named(sandbox: &Sandbox) {
    let with = |network: &str| {
        let yaml = format!(
            "services: {{a: {{image: root_fs, command: [\"true\"], networks: [lan]}}}}\nnetworks: {{lan: {{{network}}}}}\n"
        );
        yaml
    };
    for (network, words) in [
        ("driver: macvlan, driver_opts: {parent: lo}", ["networks.lan.driver_opts.parent", "`lo`"]),
        ("driver: macvlan, driver_opts: {macvlan_mode: hub}", ["networks.lan.driver_opts.macvlan_mode", "passthru"]),
        ("driver: ipvlan, driver_opts: {ipvlan_mode: l7}", ["networks.lan.driver_opts.ipvlan_mode", "l3s"]),
        ("driver: macvaln", ["networks.lan.driver", "macvlan"]),
    ] {
        refused(sandbox, &with(network), &words);
    }
}
