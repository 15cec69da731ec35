//! The way from the rules that are there to the rules that are wanted: one text for iptables-restore(8).

use super::iptables::Lines;
use super::rules::{DNAT, FORWARD, Family, POSTROUTING, USER};

/// Is the part of Docker's rules that people and other engines may add to.
const DOCKER_USER: &str = "DOCKER-USER";

/// Is what iptables-save(8) printed: chains and rules of one table.
#[derive(Clone, Debug, Default)]
struct Table<'a> {
    chains: Vec<&'a str>,
    rules: Vec<&'a str>,
}

impl<'a> Table<'a> {
    fn parse(saved: &'a str, name: &str) -> Self {
        let mut table = Self::default();
        let mut inside = false;
        for line in saved.lines().map(str::trim_end) {
            match line.strip_prefix('*') {
                Some(other) => inside = other == name,
                None if !inside => {}
                None => match line.strip_prefix(':') {
                    Some(chain) => table.chains.extend(chain.split(' ').next()),
                    None if line.starts_with("-A ") => table.rules.push(line),
                    None => {}
                },
            }
        }
        table
    }

    fn has_chain(&self, chain: &str) -> bool {
        self.chains.contains(&chain)
    }

    fn content(&self, chain: &str) -> Vec<&'a str> {
        self.rules.iter().copied().filter(|rule| rule.split(' ').nth(1) == Some(chain)).collect()
    }

    fn jumps_to(&self, chain: &str) -> Vec<&'a str> {
        let ending = format!(" -j {chain}");
        self.rules.iter().copied().filter(|rule| rule.ends_with(&ending)).collect()
    }
}

/// Is one jump into a chain of ours.
struct Jump {
    rule: String,
    /// Before the others of its chain, or after them.
    first: bool,
}

/// Makes the text that turns what `saved` shows into what is wanted, `None` where nothing is to be done.
pub(super) fn plan(saved: &str, wanted: &Lines, family: Family) -> Option<String> {
    let filter = Table::parse(saved, "filter");
    let nat = Table::parse(saved, "nat");
    if wanted.is_empty() {
        let parts = [
            removal("filter", &filter, &[FORWARD], &filter.jumps_to(FORWARD)),
            removal("nat", &nat, &[DNAT, POSTROUTING], &[nat.jumps_to(DNAT), nat.jumps_to(POSTROUTING)].concat()),
        ];
        return joined(parts);
    }
    let parts = [
        change("filter", &filter, &[FORWARD], &wanted.filter, &[forward_jump(&filter)], !filter.has_chain(USER)),
        change("nat", &nat, &[DNAT, POSTROUTING], &wanted.nat, &nat_jumps(family), false),
    ];
    joined(parts)
}

fn joined(parts: [Option<String>; 2]) -> Option<String> {
    let text: String = parts.into_iter().flatten().collect();
    (!text.is_empty()).then_some(text)
}

/// On a host with Docker its FORWARD chain, policy DROP, jumps to DOCKER-USER before all else: we go there. Elsewhere we
/// go first in FORWARD, so that a policy of DROP or a REJECT at the end does not catch our packets.
fn forward_jump(filter: &Table<'_>) -> Jump {
    let docker = filter.has_chain(DOCKER_USER) && filter.rules.contains(&"-A FORWARD -j DOCKER-USER");
    let parent = if docker { DOCKER_USER } else { "FORWARD" };
    Jump { rule: format!("{parent} -j {FORWARD}"), first: true }
}

fn nat_jumps(family: Family) -> [Jump; 3] {
    let loopback = match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    };
    [
        Jump { rule: format!("PREROUTING -m addrtype --dst-type LOCAL -j {DNAT}"), first: false },
        Jump { rule: format!("OUTPUT ! -d {loopback} -m addrtype --dst-type LOCAL -j {DNAT}"), first: false },
        Jump { rule: format!("POSTROUTING -j {POSTROUTING}"), first: false },
    ]
}

fn change(
    name: &str,
    table: &Table<'_>,
    chains: &[&str],
    wanted: &[String],
    jumps: &[Jump],
    make_user: bool,
) -> Option<String> {
    let jump_lines: Vec<String> = jumps.iter().map(|jump| format!("-A {}", jump.rule)).collect();
    let mut present: Vec<&str> = chains.iter().flat_map(|chain| table.jumps_to(chain)).collect();
    let missing: Vec<&Jump> = jumps
        .iter()
        .zip(&jump_lines)
        .filter(|(_, line)| match present.iter().position(|rule| rule == *line) {
            Some(position) => {
                present.remove(position);
                false
            }
            None => true,
        })
        .map(|(jump, _)| jump)
        .collect();
    let same = chains.iter().all(|chain| {
        table.has_chain(chain)
            && table.content(chain).iter().eq(wanted.iter().filter(|rule| rule.split(' ').nth(1) == Some(*chain)))
    });
    // What is left in `present` are doubles and jumps from chains that are no longer the right ones.
    if same && missing.is_empty() && present.is_empty() && !make_user {
        return None;
    }
    let mut text = format!("*{name}\n");
    // With --noflush a chain that is named here, and no other, is emptied first.
    for chain in chains.iter().copied().chain(make_user.then_some(USER)) {
        text += &format!(":{chain} - [0:0]\n");
    }
    for rule in present {
        text += &rule.replacen("-A ", "-D ", 1);
        text.push('\n');
    }
    for Jump { rule, first } in missing {
        text += &if *first { format!("-I {}\n", rule.replacen(' ', " 1 ", 1)) } else { format!("-A {rule}\n") };
    }
    for rule in wanted {
        text += rule;
        text.push('\n');
    }
    text += "COMMIT\n";
    Some(text)
}

/// Removes our chains; MYDOCKER-USER only where nobody put a rule into it.
fn removal(name: &str, table: &Table<'_>, chains: &[&str], jumps: &[&str]) -> Option<String> {
    let user = name == "filter" && table.has_chain(USER) && table.content(USER).is_empty();
    let ours: Vec<&str> = chains.iter().copied().filter(|chain| table.has_chain(chain)).collect();
    if ours.is_empty() && !user {
        return None;
    }
    let mut text = format!("*{name}\n");
    for rule in jumps {
        text += &rule.replacen("-A ", "-D ", 1);
        text.push('\n');
    }
    for chain in &ours {
        text += &format!("-F {chain}\n");
    }
    let jumped_to =
        table.jumps_to(USER).iter().any(|rule| !ours.iter().any(|chain| rule.split(' ').nth(1) == Some(*chain)));
    for chain in ours.iter().copied().chain((user && !jumped_to).then_some(USER)) {
        text += &format!("-X {chain}\n");
    }
    text += "COMMIT\n";
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::rules::Ruleset;
    use super::super::rules::tests::{attachment, network};
    use super::*;

    const BARE: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n-A FORWARD -i lan0 -j ACCEPT\nCOMMIT\n";

    fn plan(saved: &str, wanted: &Lines) -> Option<String> {
        super::plan(saved, wanted, Family::V4)
    }

    fn wanted() -> Lines {
        let rules = Ruleset::of(&[(network(1, false, true), vec![attachment(1, 2, &[(None, 8080, 80)])])]).unwrap();
        Lines::of(&rules, Family::V4)
    }

    /// What iptables-save prints after all of `wanted` is in place, beside the host's own rules.
    fn in_place() -> String {
        let rules = wanted();
        format!(
            "# c\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:{FORWARD} - [0:0]\n:{USER} - [0:0]\n\
             -A FORWARD -j {FORWARD}\n-A FORWARD -i lan0 -j ACCEPT\n{}\nCOMMIT\n\
             *nat\n:PREROUTING ACCEPT [0:0]\n:{DNAT} - [0:0]\n:{POSTROUTING} - [0:0]\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j {DNAT}\n\
             -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j {DNAT}\n-A POSTROUTING -j {POSTROUTING}\n{}\nCOMMIT\n",
            rules.filter.join("\n"),
            rules.nat.join("\n")
        )
    }

    #[test]
    fn a_bare_host_gets_chains_and_jumps() {
        insta::assert_snapshot!(plan(BARE, &wanted()).unwrap(), @r"
        *filter
        :MYDOCKER-FORWARD - [0:0]
        :MYDOCKER-USER - [0:0]
        -I FORWARD 1 -j MYDOCKER-FORWARD
        -A MYDOCKER-FORWARD -j MYDOCKER-USER
        -A MYDOCKER-FORWARD -o br-1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A MYDOCKER-FORWARD -i br-1 -o br-1 -j ACCEPT
        -A MYDOCKER-FORWARD -o br-1 -m conntrack --ctstate DNAT -j ACCEPT
        -A MYDOCKER-FORWARD -o br-1 -j DROP
        -A MYDOCKER-FORWARD -i br-1 -j ACCEPT
        COMMIT
        *nat
        :MYDOCKER-DNAT - [0:0]
        :MYDOCKER-POSTROUTING - [0:0]
        -A PREROUTING -m addrtype --dst-type LOCAL -j MYDOCKER-DNAT
        -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j MYDOCKER-DNAT
        -A POSTROUTING -j MYDOCKER-POSTROUTING
        -A MYDOCKER-POSTROUTING -s 10.11.1.0/24 ! -o br-1 -j MASQUERADE
        -A MYDOCKER-DNAT -i br-1 -j RETURN
        -A MYDOCKER-DNAT -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.11.1.2:80
        COMMIT
        ");
    }

    #[test]
    fn rules_in_place_need_nothing() {
        assert_eq!(plan(&in_place(), &wanted()), None);
    }

    #[test]
    fn a_second_jump_goes_and_the_users_rules_stay() {
        let doubled = in_place()
            .replace("-A POSTROUTING -j", "-A POSTROUTING -j MYDOCKER-POSTROUTING\n-A POSTROUTING -j")
            .replace(
                "-A MYDOCKER-FORWARD -j MYDOCKER-USER",
                "-A MYDOCKER-USER -s 10.0.0.1/32 -j DROP\n-A MYDOCKER-FORWARD -j MYDOCKER-USER",
            );
        let text = plan(&doubled, &wanted()).unwrap();
        assert_eq!(text.matches("-D POSTROUTING -j MYDOCKER-POSTROUTING").count(), 1);
        assert!(!text.contains("filter") && !text.contains(USER), "{text}");
    }

    #[test]
    fn with_docker_the_jump_stands_in_docker_user() {
        let docker = BARE.replace(
            "-A FORWARD -i lan0 -j ACCEPT",
            ":DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN",
        );
        let text = plan(&docker, &wanted()).unwrap();
        assert!(text.contains("-I DOCKER-USER 1 -j MYDOCKER-FORWARD\n") && !text.contains("-I FORWARD"), "{text}");
        // Docker came after us: the jump moves.
        let moved =
            in_place().replace("-A FORWARD -i lan0 -j ACCEPT", ":DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER");
        let text = plan(&moved, &wanted()).unwrap();
        assert!(text.contains("-D FORWARD -j MYDOCKER-FORWARD\n-I DOCKER-USER 1 -j MYDOCKER-FORWARD\n"), "{text}");
    }

    #[test]
    fn the_last_network_takes_chains_and_jumps_with_it() {
        insta::assert_snapshot!(plan(&in_place(), &Lines::default()).unwrap(), @r"
        *filter
        -D FORWARD -j MYDOCKER-FORWARD
        -F MYDOCKER-FORWARD
        -X MYDOCKER-FORWARD
        -X MYDOCKER-USER
        COMMIT
        *nat
        -D PREROUTING -m addrtype --dst-type LOCAL -j MYDOCKER-DNAT
        -D OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j MYDOCKER-DNAT
        -D POSTROUTING -j MYDOCKER-POSTROUTING
        -F MYDOCKER-DNAT
        -F MYDOCKER-POSTROUTING
        -X MYDOCKER-DNAT
        -X MYDOCKER-POSTROUTING
        COMMIT
        ");
        assert_eq!(plan(BARE, &Lines::default()), None);
        let with_user_rule = in_place().replace("-A FORWARD -i lan0", "-A MYDOCKER-USER -j DROP\n-A FORWARD -i lan0");
        assert!(!plan(&with_user_rule, &Lines::default()).unwrap().contains(USER));
    }
}
