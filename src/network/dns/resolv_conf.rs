//! What a container's /etc/resolv.conf says (resolv.conf(5)).

use std::net::IpAddr;

use super::server::DNS_ADDRESS;
use crate::spec::DnsRequest;

/// Makes that of a container with our name server: no other stands in it. Search list and options are those asked for, else
/// the host's. As with Docker `ndots` is 0 unless it is asked for: a name of one label is a name, and is not first tried
/// with every domain.
pub fn resolv_conf(host: &str, wanted: &DnsRequest) -> String {
    let mut text = format!("nameserver {DNS_ADDRESS}\n");
    text += &search(host, wanted);
    let mut options = wanted.options.clone();
    if options.is_empty() {
        options = words(host, "options").into_iter().filter(|option| !option.starts_with("ndots:")).collect();
    }
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.insert(0, "ndots:0".to_owned());
    }
    text += &format!("options {}\n", options.join(" "));
    text
}

/// Makes that of a container without our name server: the host's, with what is asked for in place of what it says.
pub fn plain_resolv_conf(host: &str, wanted: &DnsRequest) -> String {
    if *wanted == DnsRequest::default() {
        return host.to_owned();
    }
    let servers = wanted.servers.iter().map(IpAddr::to_string).collect();
    let servers: Vec<String> = if wanted.servers.is_empty() { words(host, "nameserver") } else { servers };
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    text += &search(host, wanted);
    let options = if wanted.options.is_empty() { words(host, "options") } else { wanted.options.clone() };
    if !options.is_empty() {
        text += &format!("options {}\n", options.join(" "));
    }
    text
}

fn search(host: &str, wanted: &DnsRequest) -> String {
    let domains = match wanted.search.as_slice() {
        [] => {
            // Of several such lines the last one counts.
            let last = host.lines().rfind(|line| matches!(keyword(line), "search" | "domain"));
            last.map(|line| line.split_ascii_whitespace().skip(1).map(str::to_owned).collect()).unwrap_or_default()
        }
        [none] if none == "." => Vec::new(),
        asked => asked.to_vec(),
    };
    if domains.is_empty() { String::new() } else { format!("search {}\n", domains.join(" ")) }
}

fn words(host: &str, key: &str) -> Vec<String> {
    let lines = host.lines().filter(|line| keyword(line) == key);
    lines.flat_map(|line| line.split_ascii_whitespace().skip(1)).map(str::to_owned).collect()
}

fn keyword(line: &str) -> &str {
    line.split_ascii_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "nameserver 192.0.2.1\nsearch corp.test\noptions ndots:5 timeout:2\n";

    fn asked(servers: &[&str], search: &[&str], options: &[&str]) -> DnsRequest {
        DnsRequest {
            servers: servers.iter().map(|text| text.parse().unwrap()).collect(),
            search: search.iter().map(|&text| text.to_owned()).collect(),
            options: options.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    #[test]
    fn our_server_stands_alone() {
        let none = DnsRequest::default();
        assert_eq!(resolv_conf(HOST, &none), "nameserver 127.0.0.11\nsearch corp.test\noptions ndots:0 timeout:2\n");
        assert_eq!(resolv_conf("", &none), "nameserver 127.0.0.11\noptions ndots:0\n");
        let asked_for = asked(&["192.0.2.53"], &["a.test", "b.test"], &["ndots:2", "rotate"]);
        let text = "nameserver 127.0.0.11\nsearch a.test b.test\noptions ndots:2 rotate\n";
        assert_eq!(resolv_conf(HOST, &asked_for), text);
        let without = asked(&[], &["."], &["rotate"]);
        assert_eq!(resolv_conf(HOST, &without), "nameserver 127.0.0.11\noptions ndots:0 rotate\n");
    }

    #[test]
    fn without_our_server_what_is_asked_for_stands_in_the_host_s_place() {
        assert_eq!(plain_resolv_conf(HOST, &DnsRequest::default()), HOST);
        let one = asked(&["192.0.2.53"], &[], &[]);
        let text = "nameserver 192.0.2.53\nsearch corp.test\noptions ndots:5 timeout:2\n";
        assert_eq!(plain_resolv_conf(HOST, &one), text);
        let other = asked(&[], &["."], &["rotate"]);
        assert_eq!(plain_resolv_conf(HOST, &other), "nameserver 192.0.2.1\noptions rotate\n");
    }
}
