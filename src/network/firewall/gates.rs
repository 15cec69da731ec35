//! Gates: chains of somebody else's through which forwarded packets go, too, and which drop what they do not know.
//!
//! An accept ends the way through one base chain, a drop ends the packet (nft(8), "Verdicts"). So where the host's owner has
//! a chain of his own with the policy drop, no rule of ours lets a packet pass: only he can. All that we can do is say so.

use std::io;
use std::path::Path;
use std::process::Stdio;

use ipnetwork::IpNetwork;
use rustix::net::SocketFlags;
use serde_json::Value;

use super::back_end::{BackEnd, find, run};
use super::nftables::TABLE;
use crate::network::nfnetlink::{self, Message, NF_TABLES, NLM_F_DUMP, NLM_F_REQUEST, answers, message, open};

// Of linux/netfilter/nf_tables.h and linux/netfilter.h.
const GET_CHAIN: u8 = 4;
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];

/// Is a chain that drops what it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::network) struct Gate {
    /// Family and name of its table, as nft(8) wants them.
    pub(in crate::network) table: String,
    /// Its name.
    pub(in crate::network) chain: String,
}

impl Gate {
    /// Reads one chain, if it is a gate.
    fn of(answer: &Message<'_>) -> Option<Self> {
        let attributes = answer.attributes();
        let text =
            |kind: u16| Some(std::str::from_utf8(attributes.value(kind)?).ok()?.trim_end_matches('\0').to_owned());
        let number = |bytes: &[u8]| bytes.first_chunk().copied().map(u32::from_be_bytes);
        let (_, family) = FAMILIES.into_iter().find(|(family, _)| Some(*family) == answer.family())?;
        // NFTA_CHAIN_HOOK with NFTA_HOOK_HOOKNUM inside, NFTA_CHAIN_POLICY
        let hook = number(attributes.nested(4)?.value(1)?)?;
        let policy = number(attributes.value(5)?)?;
        let gate = Self { table: format!("{family} {}", text(1)?), chain: text(3)? };
        (hook == NF_INET_FORWARD && policy == NF_DROP).then_some(gate)
    }

    /// Whether it is one in which `back_end` makes an exception.
    fn is_open_to(&self, back_end: &BackEnd) -> bool {
        let ours = matches!(back_end, BackEnd::Iptables(_)) && back_end.is_told_of();
        let of_iptables = matches!(self.table.as_str(), "ip filter" | "ip6 filter") && self.chain == "FORWARD";
        self.table == format!("inet {TABLE}") || (ours && of_iptables)
    }

    /// Whether packets of a subnet go through it.
    fn is_met_by(&self, subnet: IpNetwork) -> bool {
        match self.table.split(' ').next() {
            Some("ip") => subnet.is_ipv4(),
            Some("ip6") => subnet.is_ipv6(),
            _ => true,
        }
    }

    /// Whether its rules may let packets of all these subnets of a bridge out. What cannot be told is taken for an exception:
    /// its owner knows.
    fn lets_pass(&self, nft: &Path, bridge: &str, subnets: &[IpNetwork]) -> bool {
        let mut words = vec!["-j", "list", "chain"];
        words.extend(self.table.split(' '));
        words.push(&self.chain);
        let Ok(listed) = run(nft, &words, "", Stdio::piped()) else { return true };
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        let objects = listed["nftables"].as_array();
        let goes_on =
            |part: &Value| ["accept", "jump", "goto", "vmap", "queue"].iter().any(|key| part.get(key).is_some());
        let rules: Vec<&Vec<Value>> = objects
            .into_iter()
            .flatten()
            .filter_map(|object| object["rule"]["expr"].as_array())
            .filter(|rule| rule.iter().any(goes_on))
            .collect();
        let met = subnets.iter().filter(|subnet| self.is_met_by(**subnet));
        met.into_iter().all(|subnet| rules.iter().any(|rule| rule.iter().all(|part| may_match(part, bridge, *subnet))))
    }
}

/// Lists the gates in the network namespace of the calling thread that packets of this bridge do not pass.
pub(super) fn closed_to(back_end: &BackEnd, bridge: &str, subnets: &[IpNetwork]) -> Vec<Gate> {
    if *back_end == BackEnd::None {
        return Vec::new();
    }
    // A kernel without nf_tables has no such chains.
    let mut gates = gates().unwrap_or_default();
    gates.retain(|gate| !gate.is_open_to(back_end) && subnets.iter().any(|subnet| gate.is_met_by(*subnet)));
    if !gates.is_empty() {
        let Ok(nft) = find("nft") else { return gates };
        gates.retain(|gate| !gate.lets_pass(&nft, bridge, subnets));
    }
    gates
}

fn gates() -> io::Result<Vec<Gate>> {
    let socket = open(SocketFlags::empty())?;
    nfnetlink::request(&socket, &message(NF_TABLES, GET_CHAIN, NLM_F_REQUEST | NLM_F_DUMP, 0, &[]))?;
    let mut found = Vec::new();
    answers(&socket, |answer| found.extend(Gate::of(answer)))?;
    Ok(found)
}

/// Whether a match of a rule may hold for a packet of this family that is more than a message about the network itself.
fn may_be_of(part: &Value, subnet: IpNetwork) -> bool {
    let (left, right) = (&part["match"]["left"], &part["match"]["right"]);
    let of_v4 = |family: &str| match family {
        "ip" | "ipv4" => Some(true),
        "ip6" | "ipv6" => Some(false),
        _ => None,
    };
    // The payload's protocol is a match of its own, whatever the operator.
    let protocol = left["payload"]["protocol"].as_str();
    let is_equal = part["match"]["op"] == "==";
    let family = protocol.or(right.as_str().filter(|_| is_equal && left["meta"]["key"] == "nfproto"));
    let of_control = |protocol: &str| matches!(protocol, "icmp" | "icmpv6" | "ipv6-icmp");
    let carried = right.as_str().filter(|_| is_equal && left["meta"]["key"] == "l4proto");
    family.and_then(of_v4).is_none_or(|v4| v4 == subnet.is_ipv4()) && !protocol.or(carried).is_some_and(of_control)
}

/// Whether a match of a rule may hold for the first packet from a bridge to elsewhere (libnftables-json(5)).
fn may_match(part: &Value, bridge: &str, subnet: IpNetwork) -> bool {
    if !may_be_of(part, subnet) {
        return false;
    }
    let Some(matched) = part.get("match").filter(|matched| matched["op"] == "==" || matched["op"] == "in") else {
        return true;
    };
    let (left, right) = (&matched["left"], &matched["right"]);
    let any_of = |is_it: &dyn Fn(&Value) -> bool| match (right.as_array(), right["set"].as_array()) {
        (Some(list), _) | (None, Some(list)) => list.iter().any(is_it),
        (None, None) => is_it(right),
    };
    let key = left["meta"]["key"].as_str().or(left["ct"]["key"].as_str()).or(left["payload"]["field"].as_str());
    match key {
        Some("iif" | "iifname") => any_of(&|name| name.as_str().is_none_or(|name| is_named(bridge, name))),
        Some("state") => any_of(&|state| state.as_str().is_none_or(|state| state == "new")),
        Some("saddr") => any_of(&|source| network(source).is_none_or(|source| overlap(source, subnet))),
        _ => true,
    }
}

/// A `*` at the end stands for any ending; `@` begins the name of a set.
fn is_named(bridge: &str, name: &str) -> bool {
    name.starts_with('@') || name.strip_suffix('*').map_or(name == bridge, |beginning| bridge.starts_with(beginning))
}

fn network(value: &Value) -> Option<IpNetwork> {
    match value.get("prefix") {
        Some(prefix) => format!("{}/{}", prefix["addr"].as_str()?, prefix["len"]).parse().ok(),
        None => value.as_str()?.parse().ok(),
    }
}

fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a table in a network namespace of its own and asks who is closed to a bridge of ours.
    fn closed(rules: &'static str, back_end: BackEnd) -> Vec<String> {
        closed_of(rules, back_end, &["10.11.1.0/24"])
    }

    fn closed_of(rules: &'static str, back_end: BackEnd, subnets: &'static [&str]) -> Vec<String> {
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let made = std::process::Command::new("nft").arg(rules).output().unwrap();
            assert!(made.status.success(), "{made:?}");
            let subnets: Vec<IpNetwork> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
            let gates = closed_to(&back_end, "br-1", &subnets);
            gates.into_iter().map(|gate| format!("{} {}", gate.table, gate.chain)).collect()
        });
        thread.join().unwrap()
    }

    fn nft() -> BackEnd {
        BackEnd::Nftables("/usr/sbin/nft".into())
    }

    const CHAIN: &str = "type filter hook forward priority 0; policy drop;";

    #[test]
    fn a_chain_that_drops_is_found_unless_it_has_an_exception() {
        for (rule, is_closed) in [
            ("", true),
            ("ct state established,related accept;", true),
            ("ct state established,new accept;", false),
            ("iifname \"lan0\" accept;", true),
            ("iifname \"br-*\" accept;", false),
            ("iifname { \"lan0\", \"br-1\" } accept;", false),
            ("iifname { \"lan0\", \"lan1\" } oifname \"wan0\" jump more;", true),
            ("ip saddr 10.0.0.0/8 accept;", false),
            ("ip saddr 10.200.0.0/24 accept;", true),
            ("ip saddr 10.11.1.7 accept;", false),
            ("iifname \"br-1\" drop;", true),
            ("jump more;", false),
            ("counter accept;", false),
        ] {
            let rules = format!("table inet fw {{ chain more {{ }}; chain gate {{ {CHAIN} {rule} }}; }}");
            let found = closed(Box::leak(rules.into_boxed_str()), nft());
            assert_eq!(found, if is_closed { vec!["inet fw gate"] } else { vec![] }, "{rule}");
        }
    }

    #[test]
    fn each_subnet_has_to_pass() {
        const BOTH: &[&str] = &["10.11.1.0/24", "10.11.2.0/24", "fd00:1::/64"];
        for (family, rule, subnets, is_closed) in [
            ("inet", "ip saddr 10.11.1.0/24 accept;", BOTH, true),
            ("inet", "ip saddr 10.11.0.0/16 accept;", BOTH, true),
            ("inet", "ip saddr 10.11.0.0/16 accept; ip6 saddr fd00:1::/64 accept;", BOTH, false),
            ("inet", "ip saddr 10.11.0.0/16 accept; ip6 saddr fd00:2::/64 accept;", BOTH, true),
            ("inet", "meta nfproto ipv4 accept;", BOTH, true),
            ("inet", "meta nfproto ipv4 accept;", &BOTH[..1], false),
            ("inet", "iifname \"br-1\" accept;", BOTH, false),
            ("ip6", "", &BOTH[..2], false),
            ("ip6", "", BOTH, true),
            ("ip6", "meta l4proto ipv6-icmp accept; icmpv6 type echo-request accept;", BOTH, true),
            ("ip6", "ip6 saddr fd00:1::/64 accept;", BOTH, false),
            ("ip", "ip saddr 10.11.0.0/16 accept;", BOTH, false),
        ] {
            let rules = format!("table {family} fw {{ chain gate {{ {CHAIN} {rule} }}; }}");
            let found = closed_of(Box::leak(rules.into_boxed_str()), nft(), subnets);
            assert_eq!(found.len(), usize::from(is_closed), "{family} {rule} {subnets:?}");
        }
        let forward = "table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }";
        assert_eq!(closed_of(forward, nft(), BOTH), ["ip6 filter FORWARD"]);
        assert!(closed_of(forward, BackEnd::Iptables("/usr/sbin/iptables-nft".into()), BOTH).is_empty());
    }

    #[test]
    fn only_gates_are_gates_and_ours_are_open() {
        let forward = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }";
        assert_eq!(closed(forward, nft()), ["ip filter FORWARD"]);
        assert_eq!(closed(forward, BackEnd::Iptables("/usr/sbin/iptables-legacy".into())), ["ip filter FORWARD"]);
        assert!(closed(forward, BackEnd::Iptables("/usr/sbin/iptables-nft".into())).is_empty());
        assert!(closed(forward, BackEnd::None).is_empty());
        let others = "table inet fw { chain in { type filter hook input priority 0; policy drop; }; chain open { type filter hook forward \
                      priority 0; policy accept; }; }; table ip6 v6 { chain gate { type filter hook forward priority 0; policy drop; }; }";
        assert!(closed(others, nft()).is_empty());
        let own = "table inet mydocker { chain forward { type filter hook forward priority 0; policy drop; }; }";
        assert!(closed(own, nft()).is_empty());
    }
}
