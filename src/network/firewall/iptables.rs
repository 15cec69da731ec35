//! The rules in the words of iptables(8), line by line as iptables-save(8) prints them.

use std::fmt::Write as _;

use super::rules::{BridgeRules, DNAT, FORWARD, Family, POSTROUTING, Ruleset, USER};

/// Is the content of our chains of one family; empty where there is to be none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) filter: Vec<String>,
    pub(super) nat: Vec<String>,
}

impl Lines {
    /// Puts the rules of one family into words.
    pub(super) fn of(rules: &Ruleset, family: Family) -> Self {
        if !rules.has(family) {
            return Self::default();
        }
        Self { filter: filter(&rules.bridges), nat: nat(rules, family) }
    }

    /// Whether no rule is needed, and no chain.
    pub(super) fn is_empty(&self) -> bool {
        self.filter.is_empty() && self.nat.is_empty()
    }
}

/// The order is the meaning: who may talk within a bridge, what may come in, that nothing else may, what may go out.
/// A packet between two bridges of ours meets the `-o … -j DROP` of the one it goes to: one rule a network isolates all
/// pairs.
fn filter(bridges: &[BridgeRules]) -> Vec<String> {
    let mut lines = vec![format!("-A {FORWARD} -j {USER}")];
    for BridgeRules { name, .. } in bridges {
        lines.push(format!("-A {FORWARD} -o {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    }
    for BridgeRules { name, icc, .. } in bridges {
        let verdict = if *icc { "ACCEPT" } else { "DROP" };
        lines.push(format!("-A {FORWARD} -i {name} -o {name} -j {verdict}"));
    }
    for bridge in bridges.iter().filter(|bridge| bridge.publishes) {
        lines.push(format!("-A {FORWARD} -o {} -m conntrack --ctstate DNAT -j ACCEPT", bridge.name));
    }
    for BridgeRules { name, .. } in bridges {
        lines.push(format!("-A {FORWARD} -o {name} -j DROP"));
    }
    for BridgeRules { name, internal, .. } in bridges {
        let verdict = if *internal { "DROP" } else { "ACCEPT" };
        lines.push(format!("-A {FORWARD} -i {name} -j {verdict}"));
    }
    lines
}

/// A container that asks for a port published on the host is not led to the target but meets our proxy's socket, which
/// reaches every network: hence the RETURN for our own bridges.
fn nat(rules: &Ruleset, family: Family) -> Vec<String> {
    let mut lines = Vec::new();
    for bridge in rules.bridges.iter().filter(|bridge| bridge.masquerades()) {
        for subnet in bridge.subnets_of(family) {
            lines.push(format!("-A {POSTROUTING} -s {subnet} ! -o {} -j MASQUERADE", bridge.name));
        }
    }
    if rules.ports(family).next().is_some() {
        lines.extend(rules.bridges.iter().map(|bridge| format!("-A {DNAT} -i {} -j RETURN", bridge.name)));
    }
    for port in rules.ports(family) {
        let mut line = format!("-A {DNAT}");
        if let Some(host) = port.host {
            let length = if host.is_ipv6() { 128 } else { 32 };
            let _ = write!(line, " -d {host}/{length}");
        }
        let protocol = port.protocol;
        let _ = write!(line, " -p {protocol} -m {protocol} --dport {} -j DNAT", port.port);
        let _ = write!(line, " --to-destination {}", port.to);
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::example;
    use super::*;

    #[test]
    fn two_networks_with_ports() {
        let rules = Lines::of(&example(), Family::V4);
        insta::assert_snapshot!(rules.filter.join("\n"), @r"
        -A MYDOCKER-FORWARD -j MYDOCKER-USER
        -A MYDOCKER-FORWARD -o br-1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A MYDOCKER-FORWARD -o br-2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A MYDOCKER-FORWARD -i br-1 -o br-1 -j ACCEPT
        -A MYDOCKER-FORWARD -i br-2 -o br-2 -j DROP
        -A MYDOCKER-FORWARD -o br-1 -m conntrack --ctstate DNAT -j ACCEPT
        -A MYDOCKER-FORWARD -o br-1 -j DROP
        -A MYDOCKER-FORWARD -o br-2 -j DROP
        -A MYDOCKER-FORWARD -i br-1 -j ACCEPT
        -A MYDOCKER-FORWARD -i br-2 -j DROP
        ");
        insta::assert_snapshot!(rules.nat.join("\n"), @r"
        -A MYDOCKER-POSTROUTING -s 10.11.1.0/24 ! -o br-1 -j MASQUERADE
        -A MYDOCKER-DNAT -i br-1 -j RETURN
        -A MYDOCKER-DNAT -i br-2 -j RETURN
        -A MYDOCKER-DNAT -p tcp -m tcp --dport 53 -j DNAT --to-destination 10.11.1.2:53
        -A MYDOCKER-DNAT -d 192.0.2.2/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.11.1.2:8443
        -A MYDOCKER-DNAT -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.11.1.3:80
        ");
    }
}
