//! The host's rules for veth uplinks: source NAT of the router's address, published ports, and a way through FORWARD.
//!
//! Two chains a network, named by its digest, so that no network's rules wait for another's.

use super::PolycubeError;
use super::record::{NetworkState, Records, UplinkState};
use crate::network::firewall::{change_rules, saved_rules};

/// The lock under which rules are read and changed.
pub(super) const LOCK: &str = "rules";

/// The chains of a network: what it may (filter), its source NAT and its published ports (nat).
fn chains(hash: &str) -> (String, String, String) {
    (format!("POLYCUBE-{hash}"), format!("POLYCUBE-{hash}-S"), format!("POLYCUBE-{hash}-D"))
}

/// Makes the rules follow a network's record.
pub(super) fn apply(records: &Records, hash: &str, state: &NetworkState) -> Result<(), PolycubeError> {
    let lock = records.lock(LOCK)?;
    let text = match &state.uplink {
        Some(uplink) => wanted(&saved_rules()?, hash, uplink, state),
        None => removal(&saved_rules()?, hash),
    };
    if let Some(text) = text {
        change_rules(&text, &lock)?;
    }
    Ok(())
}

/// Removes a network's rules.
pub(super) fn remove(records: &Records, hash: &str) -> Result<(), PolycubeError> {
    let lock = records.lock(LOCK)?;
    if let Some(text) = removal(&saved_rules()?, hash) {
        change_rules(&text, &lock)?;
    }
    Ok(())
}

/// A chain that is named is emptied first (iptables-restore(8) with --noflush), so this may be said again and again; only the jumps
/// would double.
fn wanted(saved: &str, hash: &str, uplink: &UplinkState, state: &NetworkState) -> Option<String> {
    let (forward, source, destination) = chains(hash);
    let (link, router) = (&uplink.host_link, uplink.router.ip());
    let mut rules = vec![
        format!("-A {forward} -i {link} -j ACCEPT"),
        format!("-A {forward} -o {link} -j ACCEPT"),
        format!("-A {source} -s {router}/32 ! -o {link} -j MASQUERADE"),
    ];
    for entry in state.live().flat_map(|attachment| &attachment.ports) {
        let to = match entry.port.host_ip {
            Some(std::net::IpAddr::V4(address)) if !address.is_unspecified() => format!(" -d {address}/32"),
            _ => String::new(),
        };
        let (protocol, port) = (entry.port.protocol, entry.port.host_port);
        let matching = format!("{to} -p {protocol} -m {protocol} --dport {port}");
        rules.push(format!("-A {destination}{matching} -j DNAT --to-destination {router}:{port}"));
    }
    let jumps = [
        (false, format!("FORWARD -j {forward}"), "FORWARD 1"),
        (true, format!("POSTROUTING -j {source}"), ""),
        (true, format!("PREROUTING -m addrtype --dst-type LOCAL -j {destination}"), ""),
        (true, format!("OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j {destination}"), ""),
    ];
    let lines: Vec<&str> = saved.lines().map(str::trim_end).collect();
    let is_there = |line: &String| lines.contains(&line.as_str());
    let missing: Vec<_> = jumps.iter().filter(|(_, jump, _)| !is_there(&format!("-A {jump}"))).collect();
    let ours = lines.iter().filter(|line| line.starts_with("-A POLYCUBE-") && line[3..].starts_with(&forward));
    if missing.is_empty() && rules.iter().all(is_there) && ours.count() == rules.len() {
        return None;
    }
    let jumps_of = |is_nat: bool| {
        missing.iter().filter(|(nat, _, _)| *nat == is_nat).fold(String::new(), |text, (_, jump, first)| {
            // First of all, so that a policy of DROP or a REJECT at the end does not catch our packets.
            let line = if first.is_empty() {
                format!("-A {jump}")
            } else {
                format!("-I {}", jump.replacen("FORWARD", first, 1))
            };
            text + &line + "\n"
        })
    };
    let rules_of = |from: usize, to: usize| rules[from..to].iter().map(|rule| format!("{rule}\n")).collect::<String>();
    Some(format!(
        "*filter\n:{forward} - [0:0]\n{}{}COMMIT\n*nat\n:{source} - [0:0]\n:{destination} - [0:0]\n{}{}COMMIT\n",
        jumps_of(false),
        rules_of(0, 2),
        jumps_of(true),
        rules_of(2, rules.len()),
    ))
}

fn removal(saved: &str, hash: &str) -> Option<String> {
    let (forward, source, destination) = chains(hash);
    let mut text = String::new();
    for (table, chains) in [("filter", vec![forward]), ("nat", vec![source, destination])] {
        let is_jump = |line: &&str| chains.iter().any(|chain| line.ends_with(&format!(" -j {chain}")));
        let jumps = saved.lines().map(str::trim_end).filter(is_jump).map(|line| line.replacen("-A ", "-D ", 1));
        let present: Vec<_> = chains.iter().filter(|chain| saved.contains(&format!(":{chain} "))).collect();
        if present.is_empty() {
            continue;
        }
        let flushed = present.iter().map(|chain| format!("-F {chain}"));
        let removed = present.iter().map(|chain| format!("-X {chain}"));
        let lines: Vec<String> = jumps.chain(flushed).chain(removed).collect();
        text += &format!("*{table}\n{}\nCOMMIT\n", lines.join("\n"));
    }
    (!text.is_empty()).then_some(text)
}
