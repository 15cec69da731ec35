//! The rules in the words of nft(8): one table of ours, whose chains and maps are filled anew in one transaction.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::rules::{BridgeRules, Family, PortRule, Ruleset, USER};

/// The table that all of ours lies in, of the family `inet`.
pub(super) const TABLE: &str = "mydocker";

/// Chains whose content is ours, and the hook that the kernel enters them from.
const CHAINS: [(&str, &str); 5] = [
    ("forward", "type filter hook forward priority filter; policy accept;"),
    ("prerouting", "type nat hook prerouting priority dstnat; policy accept;"),
    ("output", "type nat hook output priority -100; policy accept;"),
    ("postrouting", "type nat hook postrouting priority srcnat; policy accept;"),
    ("published", ""),
];

/// Sets and maps, and what they hold. A packet is looked up in them once, however many networks there are.
const MAPS: [(&str, &str, &str); 8] = [
    ("set", "bridges", "ifname"),
    ("set", "publishing", "ifname"),
    ("map", "within", "ifname . ifname : verdict"),
    ("map", "leaving", "ifname : verdict"),
    ("map", "ports_v4", "inet_proto . inet_service : ipv4_addr . inet_service"),
    ("map", "ports_v6", "inet_proto . inet_service : ipv6_addr . inet_service"),
    ("map", "ports_at_v4", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service"),
    ("map", "ports_at_v6", "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service"),
];

/// Makes the transaction that puts the table's content in place, whatever it was. People's own chain is made and never emptied.
pub(super) fn script(rules: &Ruleset) -> String {
    let mut text = format!("table inet {TABLE} {{\n\tchain {USER} {{\n\t}}\n");
    for (kind, name, holds) in MAPS {
        let _ = writeln!(text, "\t{kind} {name} {{\n\t\ttype {holds}\n\t}}");
    }
    for (name, hook) in CHAINS {
        let _ = writeln!(text, "\tchain {name} {{\n\t\t{hook}\n\t}}");
    }
    text += "}\n";
    text += &emptying();
    for (_, name, _) in MAPS {
        let elements = elements(rules, name);
        if !elements.is_empty() {
            let _ = writeln!(text, "add element inet {TABLE} {name} {{ {} }}", elements.join(", "));
        }
    }
    for (chain, rule) in chain_rules(rules) {
        let _ = writeln!(text, "add rule inet {TABLE} {chain} {rule}");
    }
    text
}

/// Makes the transaction that takes all away but people's own chain, where that has rules.
pub(super) fn removal(user_has_rules: bool) -> String {
    if !user_has_rules {
        // What is to be deleted must be there.
        return format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
    }
    let mut text = emptying();
    for (name, _) in CHAINS {
        let _ = writeln!(text, "delete chain inet {TABLE} {name}");
    }
    for (kind, name, _) in MAPS {
        let _ = writeln!(text, "delete {kind} inet {TABLE} {name}");
    }
    text
}

/// Says whether people's own chain has rules, by what `nft -j list chain` printed (libnftables-json(5)).
pub(super) fn has_rules(json: &[u8]) -> bool {
    let listed: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    listed["nftables"].as_array().is_some_and(|objects| objects.iter().any(|object| object.get("rule").is_some()))
}

fn emptying() -> String {
    let chains = CHAINS.iter().map(|(name, _)| format!("flush chain inet {TABLE} {name}\n"));
    // A set that a rule still looks into is flushed all the same; it is the same word for maps.
    let maps = MAPS.iter().map(|(kind, name, _)| format!("flush {kind} inet {TABLE} {name}\n"));
    chains.chain(maps).collect()
}

/// The same order as in `iptables.rs`, and the same meaning.
fn chain_rules(rules: &Ruleset) -> Vec<(&'static str, String)> {
    let fixed = [
        ("forward", format!("jump {USER}")),
        ("forward", "oifname @bridges ct state established,related accept".to_owned()),
        ("forward", "iifname . oifname vmap @within".to_owned()),
        ("forward", "oifname @publishing ct status dnat accept".to_owned()),
        ("forward", "oifname @bridges drop".to_owned()),
        ("forward", "iifname vmap @leaving".to_owned()),
        ("prerouting", "fib daddr type local jump published".to_owned()),
        ("output", "ip daddr != 127.0.0.0/8 fib daddr type local jump published".to_owned()),
        ("output", "ip6 daddr != ::1 fib daddr type local jump published".to_owned()),
        ("published", "iifname @bridges return".to_owned()),
        ("published", "dnat ip to ip daddr . meta l4proto . th dport map @ports_at_v4".to_owned()),
        ("published", "dnat ip to meta l4proto . th dport map @ports_v4".to_owned()),
        ("published", "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports_at_v6".to_owned()),
        ("published", "dnat ip6 to meta l4proto . th dport map @ports_v6".to_owned()),
    ];
    let mut lines = fixed.to_vec();
    for bridge in rules.bridges.iter().filter(|bridge| bridge.masquerades()) {
        for subnet in &bridge.subnets {
            let source = if subnet.is_ipv6() { "ip6 saddr" } else { "ip saddr" };
            lines.push(("postrouting", format!("{source} {subnet} oifname != \"{}\" masquerade", bridge.name)));
        }
    }
    lines
}

fn elements(rules: &Ruleset, map: &str) -> Vec<String> {
    let verdict = |accepts: bool| if accepts { "accept" } else { "drop" };
    let bridges = rules.bridges.iter();
    match map {
        "bridges" => bridges.map(quoted).collect(),
        "publishing" => bridges.filter(|bridge| bridge.publishes).map(quoted).collect(),
        "within" => bridges.map(|one| format!("{name} . {name} : {}", verdict(one.icc), name = quoted(one))).collect(),
        "leaving" => bridges.map(|bridge| format!("{} : {}", quoted(bridge), verdict(!bridge.internal))).collect(),
        "ports_v4" => ports(rules, Family::V4, false),
        "ports_v6" => ports(rules, Family::V6, false),
        "ports_at_v4" => ports(rules, Family::V4, true),
        _ => ports(rules, Family::V6, true),
    }
}

fn quoted(bridge: &BridgeRules) -> String {
    format!("\"{}\"", bridge.name)
}

/// Lists the ports of a family: those of all addresses of the host, or those of one.
fn ports(rules: &Ruleset, family: Family, at: bool) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut lines = Vec::new();
    for PortRule { to, host, port, protocol } in rules.ports(family).filter(|port| port.host.is_some() == at) {
        let key = host.map_or_else(String::new, |host| format!("{host} . ")) + &format!("{protocol} . {port}");
        // Ports are reserved, so none comes twice; a map would refuse all if one did.
        if seen.insert(key.clone()) {
            lines.push(format!("{key} : {} . {}", SocketAddr::ip(to), to.port()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::example;
    use super::*;

    #[test]
    fn two_networks_with_ports() {
        let script = script(&example());
        let content = script.lines().filter(|line| line.starts_with("add ")).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(content, @r#"
        add element inet mydocker bridges { "br-1", "br-2" }
        add element inet mydocker publishing { "br-1" }
        add element inet mydocker within { "br-1" . "br-1" : accept, "br-2" . "br-2" : drop }
        add element inet mydocker leaving { "br-1" : accept, "br-2" : drop }
        add element inet mydocker ports_v4 { tcp . 53 : 10.11.1.2 . 53, tcp . 8080 : 10.11.1.3 . 80 }
        add element inet mydocker ports_at_v4 { 192.0.2.2 . tcp . 443 : 10.11.1.2 . 8443 }
        add rule inet mydocker forward jump MYDOCKER-USER
        add rule inet mydocker forward oifname @bridges ct state established,related accept
        add rule inet mydocker forward iifname . oifname vmap @within
        add rule inet mydocker forward oifname @publishing ct status dnat accept
        add rule inet mydocker forward oifname @bridges drop
        add rule inet mydocker forward iifname vmap @leaving
        add rule inet mydocker prerouting fib daddr type local jump published
        add rule inet mydocker output ip daddr != 127.0.0.0/8 fib daddr type local jump published
        add rule inet mydocker output ip6 daddr != ::1 fib daddr type local jump published
        add rule inet mydocker published iifname @bridges return
        add rule inet mydocker published dnat ip to ip daddr . meta l4proto . th dport map @ports_at_v4
        add rule inet mydocker published dnat ip to meta l4proto . th dport map @ports_v4
        add rule inet mydocker published dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports_at_v6
        add rule inet mydocker published dnat ip6 to meta l4proto . th dport map @ports_v6
        add rule inet mydocker postrouting ip saddr 10.11.1.0/24 oifname != "br-1" masquerade
        "#);
    }

    #[test]
    fn people_s_own_chain_is_never_emptied() {
        assert!(!script(&example()).contains(&format!("flush chain inet {TABLE} {USER}")));
        assert!(!removal(true).contains(USER) && !removal(true).contains("delete table"));
        assert!(removal(false).contains("delete table"));
    }

    #[test]
    fn rules_of_people_are_seen() {
        let with = r#"{"nftables": [{"metainfo": {}}, {"chain": {}}, {"rule": {"expr": [{"drop": null}]}}]}"#;
        assert!(has_rules(with.as_bytes()));
        assert!(!has_rules(br#"{"nftables": [{"metainfo": {}}, {"chain": {}}]}"#));
        assert!(!has_rules(b""));
    }
}
